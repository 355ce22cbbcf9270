#!/usr/bin/env bash
# golangci-lint at the pinned version, built into bin/ on first use.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v2.15.0
bin="$PWD/bin/golangci-lint-$version"
if [ ! -x "$bin" ]; then
	echo "building golangci-lint $version (some minutes, once)"
	GOBIN="$PWD/bin" go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
	mv bin/golangci-lint "$bin"
fi
exec "$bin" run "$@" ./...
