#!/usr/bin/env bash
# Runs the Codex CLI and Claude Code, unmodified, through the real binary
# against scripted backends; they reach nothing but this machine. Installs both
# first (once; a stamp says what is there): about ten seconds and 640 MB, for
# which reason "make test" leaves them out.
#
#	scripts/codex.sh            install, then run
#	scripts/codex.sh --install  install only
set -euo pipefail
cd "$(dirname "$0")/.."
dir=testdata/codex

case "${1:-}" in
"" | --install) ;;
*)
	echo "usage: scripts/codex.sh [--install]" >&2
	exit 2
	;;
esac

./scripts/npm.sh $dir "the command line clients"

[ "${1:-}" = --install ] || exec go test -race -count=1 -tags codex -timeout 10m -run 'TestCodex|TestClaudeCode' .
