#!/usr/bin/env bash
# Checks of the image without an engine: lints the Dockerfile, runs its build
# line, and runs the result the way the image does: uid 65532, a read-only root
# that holds nothing else, the Dockerfile's own environment, command and
# health check, in a network of its own. Wants Linux and root (or user
# namespaces); elsewhere it lints and builds, and says what it left out.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '   %s\n' "$*"; }

# line WORD prints what follows WORD at the start of the Dockerfile's last
# line of that kind, continuation lines not expected.
line() { sed -n "s/^$1 //p" Dockerfile | tail -n 1; }

lint=testdata/clients/node_modules/.bin/dockerfile-utils
[ -x "$lint" ] || ./scripts/clients.sh --install
"$lint" lint Dockerfile
say "the Dockerfile lints"

root=$(mktemp -d)
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT
build=$(sed -n 's/^RUN \(CGO_ENABLED=0 go build .*\)/\1/p' Dockerfile)
[ -n "$build" ] || { echo "the Dockerfile has no line that builds the binary" >&2; exit 1; }
build=${build/-o \/nearside/-o $root/nearside}
case "$build" in *"-o $root/nearside"*) ;; *) echo "the build line does not write /nearside: $build" >&2; exit 1 ;; esac
sh -c "$build"
say "its build line builds ($(du -k "$root/nearside" | cut -f1) KiB)"

if [ "$(uname)" != Linux ] || ! command -v unshare >/dev/null 2>&1; then
	say "left out: running it read-only as another user needs Linux with unshare"
	exit 0
fi
case "$(LC_ALL=C ldd "$root/nearside" 2>&1 || true)" in
*"not a dynamic executable"* | *"statically linked"*) say "the binary is static" ;;
*) echo "the binary is not static" >&2; ldd "$root/nearside" >&2 || true; exit 1 ;;
esac

user=$(line USER)
[ "$user" = 65532:65532 ] || { echo "the image runs as $user, not as 65532:65532" >&2; exit 1; }
volume=$(line VOLUME)
grep -qx "RUN mkdir $volume" Dockerfile && grep -qx "COPY --from=build --chown=$user $volume $volume" Dockerfile || {
	echo "nobody makes $volume for $user: a volume there could not be written to" >&2
	exit 1
}
copied=$(line COPY) # config.json5 /etc/nearside/config.json5
mkdir -p "$root/$(dirname "${copied##* }")" "$root$volume"
cp "${copied%% *}" "$root${copied##* }"

if [ "$(id -u)" = 0 ]; then
	become="" user_flag="--userspec=$user"
elif unshare -r true 2>/dev/null; then
	# Of user ids there is only one in such a namespace: it stands for 65532.
	become=-r user_flag=""
	say "left out: the change of user, which needs root"
else
	say "left out: running it needs root or user namespaces"
	exit 0
fi
command -v ip >/dev/null 2>&1 || {
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || { echo "The network of its own needs ip. Install the package iproute2 and run this again." >&2; exit 1; }
	apt-get update -qq && apt-get install -y -qq iproute2 >/dev/null
}

words() { tr -d '[],' <<<"$1" | xargs -n1 printf '%s\n'; } # of the exec form
mapfile -t run < <(words "$(line ENTRYPOINT)"; words "$(line CMD)")
mapfile -t health < <(words "$(sed -n 's/^HEALTHCHECK .*CMD //p' Dockerfile)")
read -r -a environment <<<"$(line ENV)"
data=$root$volume
log=$(mktemp)
trap 'rm -rf "$root" "$log"' EXIT

inside() { # runs in namespaces of its own, which end with it
	ip link set lo up
	mount --bind "$root" "$root"
	mount -t tmpfs -o "mode=0755${user_flag:+,uid=${user%%:*},gid=${user##*:}}" tmpfs "$data"
	mount -o remount,bind,ro "$root"
	if touch "$root/x" 2>/dev/null; then echo "the root can be written to" >&2; return 1; fi
	local image=(env -i "${environment[@]}" "$chroot" $user_flag "$root")
	"${image[@]}" "${run[@]}" >"$log" 2>&1 &
	local server=$! i
	for ((i = 0; i < 100; i++)); do
		if "${image[@]}" "${health[@]}" >/dev/null 2>&1; then
			say "it runs with a read-only root and answers its own health check"
			[ -z "$user_flag" ] || [ "$(stat -c %u /proc/$server)" = "${user%%:*}" ] || { echo "it does not run as $user" >&2; return 1; }
			kill -TERM $server
			wait $server || { echo "it did not stop well:" >&2; cat "$log" >&2; return 1; }
			say "SIGTERM stops it"
			if "${image[@]}" "${health[@]}" >/dev/null 2>&1; then echo "the health check passes with nothing running" >&2; return 1; fi
			return 0
		fi
		kill -0 $server 2>/dev/null || break
		sleep 0.1
	done
	echo "it did not become healthy:" >&2
	cat "$log" >&2
	return 1
}
chroot=$(command -v chroot)
export root data log user user_flag chroot
unshare $become -m -n -p -f --mount-proc bash -euo pipefail -c \
	"$(declare -f say inside); $(declare -p run health environment); inside"
