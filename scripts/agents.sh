#!/usr/bin/env bash
# Runs opencode and OpenClaw, unmodified, with the settings that "nearside
# connect" prints for them; they reach nothing but this machine. Installs both
# first (once; a stamp says what is there): about a minute and 1.2 GB, for which
# reason "make test" leaves them out.
#
#	scripts/agents.sh            install, then run
#	scripts/agents.sh --install  install only
set -euo pipefail
cd "$(dirname "$0")/.."
dir=testdata/agents

case "${1:-}" in
"" | --install) ;;
*)
	echo "usage: scripts/agents.sh [--install]" >&2
	exit 2
	;;
esac

# An old npm takes the system's Node for the one that they will run on.
./scripts/npm.sh $dir "the agents" --force

[ "${1:-}" = --install ] || exec go test -race -count=1 -tags agents -timeout 10m -run 'TestAgents' .
