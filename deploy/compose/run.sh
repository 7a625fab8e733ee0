#!/bin/bash
# Brings docker-compose.test.yml up for real and looks whether it is a swarm: what "make test-compose" does.
#
# Debian's container engine is started by hand in namespaces of its own (processes, mounts, network): this machine's
# engine, if there is one, its firewall and its services are not touched, and nothing can outlive the namespaces.
# They end with this script, however it ends; the last line is the verdict.  What remains in .lab/compose is Debian as a
# tar, the engine's image layers for the next run, and logs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

STATE=$PWD/.lab/compose
LIMIT=${LIMIT:-30m}
mkdir -p "$STATE"

# The lock is held by everything that is started here: it is free when the last of a killed run is gone.
exec 9>"$STATE/lock"
flock --wait 30 9 || { echo "Another make test-compose is at work in this tree." >&2; exit 1; }

guard='' ending=''
finish() {
  local status=$?
  trap '' INT TERM HUP
  if [[ -n $guard ]]; then
    kill "-$ending" "$guard" 2>/dev/null || true
    wait "$guard" 2>/dev/null || true
  fi
  if ! remove_cgroups || [[ ! -e $STATE/verdict ]]; then
    status=$((status == 0 ? 1 : status))
    echo "0 passed, 1 failed"
  fi
  exit "$status"
}
trap finish EXIT
trap 'echo "Interrupted." >&2; exit 130' INT TERM HUP

# The engine's cgroups; they can go when the last process of the namespaces is gone.
remove_cgroups() {
  local deadline=$((SECONDS + 20)) left
  while true; do
    mapfile -t left < <(find /sys/fs/cgroup -maxdepth 3 -type d -name swarmd-compose 2>/dev/null)
    [[ ${#left[@]} == 0 ]] && return 0
    find "${left[@]}" -depth -type d -delete 2>/dev/null || true
    ((SECONDS < deadline)) || { echo "These cgroups cannot be removed: ${left[*]}" >&2; return 1; }
    sleep 0.2
  done
}

rm -f "$STATE/verdict"
remove_cgroups # of a run that was killed
# guarded SIGNAL LIMIT COMMAND...: run it; SIGNAL ends it when this script ends, or its time is over.
guarded() {
  local status=0
  ending=$1
  setpriv --pdeathsig "$1" timeout --signal "$1" "$2" "${@:3}" </dev/null &
  guard=$!
  wait "$guard" || status=$?
  guard=
  [[ $status != 124 && $status != 137 ]] || echo "It was ended, or took longer than $2." >&2
  return "$status"
}

printf '\n── The base image, made from packages\n'
guarded TERM "$LIMIT" deploy/compose/base.sh "$STATE"

# Whoever of these is killed takes the next one along; the last one is process 1 of the namespaces.
guarded KILL "$LIMIT" \
  setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child=KILL --propagation private --mount-proc \
  deploy/compose/engine.sh "$STATE"
