#!/usr/bin/env bash
# Everything CI does. Installs what the tests need when it may (as root with
# apt-get, or npm); otherwise it says what it would install and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

need() { # need COMMAND DEBIAN-PACKAGE
	command -v "$1" >/dev/null 2>&1 && return
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		say "installing $2"
		apt-get update -qq && apt-get install -y -qq "$2" >/dev/null
	else
		echo "The tests need $1. Install the package $2 (as root: apt-get install $2) and run them again." >&2
		exit 1
	fi
}

command -v go >/dev/null 2>&1 || { echo "Go 1.26 or newer is needed: https://go.dev/dl/" >&2; exit 1; }
need gcc gcc # the race detector wants cgo
need npm npm
need promtool prometheus
need systemd-analyze systemd
need plistutil libplist-utils
[ -n "${CHROMIUM:-}" ] || need chromium chromium # the dashboard is looked at in a real browser

say "format"
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "gofmt would change:"; echo "$unformatted"; exit 1; }

say "vet"
go vet ./...
go vet -tags "clients codex" . # what "make test-clients" builds, too

say "clients' packages"
./scripts/clients.sh --install

say "Go tests with the race detector, official Node clients among them"
go test -race -tags clients -timeout 18m ./...

say "what the race detector's builds do not have"
go test -timeout 5m ./upstream/direct

say "the image without an engine"
./scripts/image.sh

say "all passed"
