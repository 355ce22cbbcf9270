#!/usr/bin/env bash
# Runs the failure scenarios through the real binary, prints the scorecard and
# writes it to bin/wall.json and bin/wall.txt, or to the folder given as argument.
# Exits with 0 only when every scenario passes. NEARSIDE_WALL=full takes the
# durations as published instead of a tenth of them.
set -euo pipefail
out="${1:-bin}"
mkdir -p "$out"
out="$(cd "$out" && pwd)"
cd "$(dirname "$0")/.."
rm -f "$out/wall.json" "$out/wall.txt"
status=0
log="$(NEARSIDE_WALL_OUT="$out" go test -count=1 -timeout 15m -run '^TestWall$' . 2>&1)" || status=$?
if [ -f "$out/wall.txt" ]; then
	cat "$out/wall.txt"
fi
if [ "$status" != 0 ]; then
	echo "$log" >&2
fi
exit "$status"
