#!/bin/sh
# deps.sh: installs the Debian packages that building, testing and the demo need and that are
# missing, and those that it is given besides. Does nothing, not even reach for the network, when
# there are none.
set -eu

packages="gcc libc6-dev make pkg-config binutils
    protobuf-c-compiler libprotobuf-c-dev libevent-dev libsystemd-dev libconfuse-dev
    libsqlite3-dev libsmartcols-dev libjansson-dev libbsd-dev uthash-dev
    check systemd mandoc nftables iproute2 ethtool procps util-linux $*"

missing=
for package in $packages; do
    status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "Packages are missing. As root:" >&2
    echo "    apt-get update && apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
# shellcheck disable=SC2086 # a list of words
apt-get install -y --no-install-recommends $missing
