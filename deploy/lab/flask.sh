#!/bin/bash
# The Flask application of many an introduction, built on this node with no registry: the base image by debootstrap,
# flask from a directory of wheels inside of it.  Shows which steps are carried out after a change of app.py.
#
#   deploy/lab/flask.sh [DIRECTORY]          the base image is kept there (.lab/flask)
#
# Needs root, a daemon that swarmctl reaches (its context, or $SWARMCTL_CONTEXT), and a way to Debian's and Python's
# packages the first time.  $DEBIAN_MIRROR names another mirror than debootstrap's own.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/console.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

SHELF=/opt/wheels
target=${1:-.lab/flask}
export PATH=$PWD/.venv/bin:$PATH:/usr/sbin:/sbin
mkdir -p "$target"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

base() {
  title "The base image: Debian's Python by debootstrap, and wheels of flask"
  if [[ ! -e $target/python.tar ]]; then
    debootstrap --variant=minbase --include=python3,python3-pip bookworm "$work/root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} \
      >"$target/debootstrap.log" 2>&1 || fail "debootstrap failed: $(tail -n 3 "$target/debootstrap.log")"
    ln -s python3 "$work/root/usr/bin/python"
    mkdir -p "$work/root$SHELF"
    python -m pip download --quiet --python-version 3.11 --only-binary :all: --dest "$work/root$SHELF" flask </dev/null
    printf '[global]\nno-index = true\nfind-links = %s\nbreak-system-packages = true\nroot-user-action = ignore\n' \
      "$SHELF" >"$work/root/etc/pip.conf"
    rm -rf "$work/root"/var/cache/apt/archives/*.deb "$work/root"/var/lib/apt/lists/*
    tar -C "$work/root" -cf "$target/python.tar.new" .
    mv "$target/python.tar.new" "$target/python.tar"
  fi
  run swarmctl image import -c 'CMD ["python3"]' "$target/python.tar" python:3.11-slim
}

build() { # CONTEXT DOCKERFILE
  run swarmctl build --progress plain -t app -f "$1/$2" "$1" 2>&1 | tee "$work/out"
}

cached() { grep -c '^#[0-9]* CACHED' "$work/out" || true; }

expect() { # NUMBER WHAT
  [[ $(cached) == "$1" ]] || fail "expected $1 steps from the cache $2, but there were $(cached)"
}

base
cp -r deploy/lab/flask "$work/app"

title "pip first, app.py last"
build "$work/app" Dockerfile
title "Nothing changed: everything is known"
build "$work/app" Dockerfile
expect 3 "when nothing changed"
title "app.py changed: only its own step is carried out"
sed -i 's/Hello/Good morning/' "$work/app/app.py"
build "$work/app" Dockerfile
expect 2 "when app.py changed"
run swarmctl history app

title "app.py first: after a change of it pip runs again"
build "$work/app" copy-first.Dockerfile
sed -i 's/Good morning/Good evening/' "$work/app/app.py"
build "$work/app" copy-first.Dockerfile
expect 1 "when the first step changed"

title "It runs"
name=flask-$$
run swarmctl run -d --name "$name" app
answer=
asks() {
  answer=$(swarmctl exec "$name" python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:5000").read().decode())' 2>/dev/null)
}
wait_for 60 "an answer of the application" asks
swarmctl rm -f "$name" >/dev/null
[[ $answer == *"Good evening"* ]] || fail "the application does not answer: $answer"
echo "$answer"
