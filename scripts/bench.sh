#!/usr/bin/env bash
# Builds the binary, measures the whole path beside a bare relay, and runs the
# Go benchmarks of the hot packages. Arguments go to "nearside bench --overhead".
set -euo pipefail
cd "$(dirname "$0")/.."
bin="${BIN:-bin/nearside}"
go build -trimpath -o "$bin" .
status=0
"$bin" bench --overhead "$@" || status=$?
go test -run '^$' -bench . -benchtime 200ms ./shaping/wire ./shaping ./breaker ./proxy ./proxy/meter
exit "$status"
