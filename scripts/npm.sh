#!/usr/bin/env bash
# Installs what a folder's package.json and lock file name, once; a stamp says
# what is there.
#
#	scripts/npm.sh DIR WHAT [FLAG…]   WHAT for people, flags for npm ci
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$1 what=$2
shift 2

if ! command -v npm >/dev/null 2>&1; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		apt-get update -qq && apt-get install -y -qq npm >/dev/null
	else
		echo "$what need npm to be installed (as root: apt-get install npm)." >&2
		exit 1
	fi
fi

wanted="$(cat "$dir/package.json" "$dir/package-lock.json" | sha256sum | cut -d' ' -f1) $*"
stamp=$dir/node_modules/.installed
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
	echo "installing $what"
	(cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error "$@")
	printf '%s\n' "$wanted" >"$stamp"
fi
