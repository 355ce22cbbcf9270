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

command -v npm >/dev/null 2>&1 || {
	echo "The agents need npm to be installed (as root: apt-get install npm)." >&2
	exit 1
}

wanted="$(cat $dir/package.json $dir/package-lock.json | sha256sum | cut -d' ' -f1)"
stamp=$dir/node_modules/.installed
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
	echo "installing the agents"
	# An old npm takes the system's Node for the one that they will run on.
	(cd $dir && npm ci --force --ignore-scripts --no-audit --no-fund --loglevel=error)
	printf '%s\n' "$wanted" >"$stamp"
fi

[ "${1:-}" = --install ] || exec go test -race -count=1 -tags agents -timeout 10m -run 'TestAgents' .
