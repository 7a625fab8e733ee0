#!/bin/bash
# Process 1 of the namespaces that run.sh made: starts a container engine in them, builds the image, lets lab.sh bring
# the swarm up and look at it, ends the engine.  What is still there when this script ends is ended by the kernel.
#
#   deploy/compose/engine.sh STATE           STATE: a directory for layers and logs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

STATE=$1
unset "${!DOCKER_@}" "${!COMPOSE_@}"

# Everything below /run is the engine's own, and the view of the devices is that of its network.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/cgroup /run/client
mount --rbind /sys/fs/cgroup /run/cgroup
umount --recursive --lazy /sys
mount -t sysfs sysfs /sys
mount --move /run/cgroup /sys/fs/cgroup
[[ ! -d /etc/docker ]] || mount -t tmpfs -o mode=700 tmpfs /etc/docker
ip link set lo up
export DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=/run/client DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0
export COMPOSE_FILE=$PWD/docker-compose.test.yml COMPOSE_PROJECT_NAME=swarmd

fail() {
  printf '\nNot as expected: %s\n' "$*" >&2
  exit 1
}
trap 'exit 143' TERM INT HUP

# After an end that was not in order the engine's directory is not to be trusted; it holds nothing but copies.
[[ -e $STATE/engine/in-order ]] || rm -rf "$STATE/engine"
mkdir -p "$STATE/engine"
rm -f "$STATE/engine/in-order"
echo '{}' >/run/daemon.json

printf '\n── The engine: %s\n' "$(dockerd --version)"
dockerd --config-file /run/daemon.json --data-root "$STATE/engine" --exec-root /run/docker --pidfile /run/docker.pid \
  --host "$DOCKER_HOST" --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /swarmd-compose \
  --live-restore=false >"$STATE/engine.log" 2>&1 &
engine=$!
deadline=$((SECONDS + 90))
until timeout 10 docker info >/dev/null 2>&1; do
  kill -0 "$engine" 2>/dev/null || fail "the engine did not start: $(tail -n 5 "$STATE/engine.log")"
  ((SECONDS < deadline)) || fail "the engine does not answer: $(tail -n 5 "$STATE/engine.log")"
  sleep 0.3
done

printf '\n── The image of swarmd, built from deploy/Dockerfile without a network\n'
base=$(sha256sum <"$STATE/base.stamp" | cut -c 1-12)
docker image inspect "swarmd-base:$base" >/dev/null 2>&1 ||
  timeout 300 docker import "$STATE/base.tar" "swarmd-base:$base" >/dev/null
docker tag "swarmd-base:$base" debian:12-slim
timeout 900 docker-compose build manager1 >"$STATE/build.log" 2>&1 ||
  fail "the image cannot be built: $(tail -n 15 "$STATE/build.log")"
docker image ls swarmd:test

status=0
deploy/compose/lab.sh "$STATE" || status=$?

kill -TERM "$engine"
deadline=$((SECONDS + 30))
while kill -0 "$engine" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.2; done
if ! kill -0 "$engine" 2>/dev/null && [[ $status == 0 ]]; then touch "$STATE/engine/in-order"; fi
exit "$status"
