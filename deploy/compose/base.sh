#!/bin/bash
# Makes the image that deploy/Dockerfile begins FROM, for machines that cannot pull it: Debian by debootstrap, and in
# it everything the Dockerfiles will ask the network for: its Debian packages in a small archive of their own, and the
# Python packages of constraints.txt.  apt and pip inside are told to look there, so that the image of swarmd is built
# from the Dockerfile as it stands, with no network at all.
#
#   deploy/compose/base.sh DIRECTORY         writes DIRECTORY/base.tar, for "docker import"
#
# Needs root, a way to Debian's and Python's packages the first time, and .venv for its pip.  A second run with the
# same packages wanted does nothing.  $DEBIAN_MIRROR names another mirror than debootstrap's own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

SUITE=bookworm
IMAGE=debian:12-slim
SHELF=/opt/shelf
target=$1

fail() {
  echo "$*" >&2
  exit 1
}

# The packages that the Dockerfiles install, one a line.
wanted() {
  sed -e ':a' -e '/\\$/{N;s/\\\n//;ba' -e '}' deploy/Dockerfile deploy/compose/systemd.Dockerfile |
    grep -o 'apt-get install [^&]*' | tr -s ' ' '\n' |
    grep -vE '^(apt-get|install|-.*|)$' | sort -u
}

mapfile -t froms < <(awk '$1 == "FROM" { print $2 }' deploy/Dockerfile | sort -u)
[[ ${froms[*]} == "$IMAGE" ]] || fail "deploy/Dockerfile begins FROM ${froms[*]}, but $0 makes $IMAGE: change both."

mkdir -p "$target"
stamp=$({ wanted; cat constraints.txt deploy/compose/base.sh; } | sha256sum)
[[ -e $target/base.tar && $(cat "$target/base.stamp" 2>/dev/null) == "$stamp" ]] && exit 0

work=$target/base.work
trap 'rm -rf "$work"' EXIT
rm -rf "$work"
mkdir "$work"

if [[ ! -e $target/bare.tar ]]; then
  echo "   Debian ($SUITE) by debootstrap"
  debootstrap --variant=minbase "$SUITE" "$work/root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$target/debootstrap.log" 2>&1 ||
    fail "debootstrap failed: $(tail -n 3 "$target/debootstrap.log")"
  tar -C "$work/root" -cf "$target/bare.tar.new" .
  mv "$target/bare.tar.new" "$target/bare.tar"
  rm -rf "$work/root"
fi
mkdir "$work/root"
tar -C "$work/root" -xpf "$target/bare.tar"

mapfile -t packages < <(wanted)
echo "   Debian packages of deploy/Dockerfile: ${packages[*]}"
cp --remove-destination /etc/resolv.conf "$work/root/etc/resolv.conf"
inside() { chroot "$work/root" "$@" </dev/null >>"$target/base.log" 2>&1; }
: >"$target/base.log"
{ inside apt-get -q update && inside apt-get -q install --download-only --yes --no-install-recommends "${packages[@]}"; } ||
  fail "apt-get in the base image failed: $(tail -n 3 "$target/base.log")"
rm "$work/root/etc/resolv.conf"
mkdir -p "$work/root$SHELF/apt" "$work/root$SHELF/wheels"
mv "$work/root"/var/cache/apt/archives/*.deb "$work/root$SHELF/apt"
rm -rf "$work/root"/var/lib/apt/lists/*
(
  cd "$work/root$SHELF/apt"
  for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -d ' ' -f 1)"
  done >Packages
)
echo "deb [trusted=yes] file:$SHELF/apt ./" >"$work/root/etc/apt/sources.list"

# Debian 12 has Python 3.11, whatever .venv has.
echo "   Python packages of constraints.txt"
.venv/bin/python -m pip download --quiet --quiet --no-deps --no-build-isolation --python-version 3.11 --require-hashes \
  --requirement constraints.txt --dest "$work/root$SHELF/wheels" </dev/null >>"$target/base.log" 2>&1 ||
  fail "pip cannot download what constraints.txt names: $(tail -n 3 "$target/base.log")"
printf '[global]\nno-index = true\nfind-links = %s/wheels\n' "$SHELF" >"$work/root/etc/pip.conf"

tar -C "$work/root" -cf "$target/base.tar.new" .
mv "$target/base.tar.new" "$target/base.tar"
echo "$stamp" >"$target/base.stamp"
