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

command -v npm >/dev/null 2>&1 || {
	echo "The command line clients need npm to be installed (as root: apt-get install npm)." >&2
	exit 1
}

wanted="$(cat $dir/package.json $dir/package-lock.json | sha256sum | cut -d' ' -f1)"
stamp=$dir/node_modules/.installed
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
	echo "installing the command line clients"
	(cd $dir && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
	printf '%s\n' "$wanted" >"$stamp"
fi

[ "${1:-}" = --install ] || exec go test -race -count=1 -tags codex -timeout 10m -run 'TestCodex|TestClaudeCode' .
