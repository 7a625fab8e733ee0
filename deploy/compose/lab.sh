#!/bin/bash
# Brings docker-compose.test.yml up in the engine of $DOCKER_HOST and looks, from outside of the containers, whether they
# are a swarm: three managers and two workers that serve, update, survive, come back.  Each command is printed as one
# would type it ("swarmctl" is run in a manager's container, "on NODE" is "docker exec" in NODE's); the first thing
# that is not as expected ends it.  The containers are removed either way.
#
#   deploy/compose/lab.sh DIRECTORY          logs of the nodes and the verdict are left there
#
# It needs docker, docker-compose, curl, the image swarmd:test, and the lab's images in .lab/images.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lab/console.sh"
source "$(dirname "${BASH_SOURCE[0]}")/unit.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

STATE=$1
IMAGES=.lab/images
MANAGERS=(manager1 manager2 manager3)
NODES=("${MANAGERS[@]}" worker1 worker2)
export COMPOSE_FILE=$PWD/docker-compose.test.yml COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-swarmd}

declare -A container=() address=()
through=manager1
passed=0
client=
work=$(mktemp -d)

finish() {
  local status=$? node
  trap - EXIT
  [[ -n $client ]] && kill "$client" 2>/dev/null
  rm -rf "$work" "$STATE/nodes"
  mkdir -p "$STATE/nodes"
  for node in "${!container[@]}"; do
    timeout 20 docker logs "${container[$node]}" >"$STATE/nodes/$node.log" 2>&1 || true
  done
  if [[ $status != 0 ]]; then
    printf '\nWhat the nodes said is in %s.\n' "$STATE/nodes" >&2
    for node in "${!container[@]}"; do tail -n 5 "$STATE/nodes/$node.log" | sed "s/^/$node: /" >&2; done
  fi
  [[ -z ${container[machine]:-} ]] || timeout 60 docker rm --force --volumes "${container[machine]}" >/dev/null || true
  if ! docker-compose down --volumes --timeout 10 >"$STATE/down.log" 2>&1; then
    echo "docker-compose down failed: $(tail -n 3 "$STATE/down.log")" >&2
    status=1
  fi
  printf '\n%s passed, %s failed\n' "$passed" "$((status != 0))" | tee "$STATE/verdict"
  exit "$status"
}
trap finish EXIT

docker-compose() { timeout 300 docker-compose "$@"; }
on() { timeout 240 docker exec -i "${container[$1]}" "${@:2}"; }
swarmctl() { on "$through" swarmctl "$@"; }
look() {
  swarmctl node ls
  swarmctl service ps --no-trunc nginx1
}
on_failure=look

node_count_is() { [[ $(swarmctl node ls --format '{{.Status}}' 2>/dev/null | grep -cx Ready) == "$1" ]]; }
manager_count_is() { [[ $(swarmctl node ls --format '{{.ManagerStatus}}' 2>/dev/null | grep -cxE 'Leader|Reachable') == "$1" ]]; }
leader() { swarmctl node ls --format '{{.Hostname}} {{.ManagerStatus}}' 2>/dev/null | awk '$2 == "Leader" { print $1 }'; }
has_leader() { [[ -n $(leader) ]]; }
version_is() { [[ $(version_at "$1") == "$2" ]]; }
nodes_used_are() { [[ $(places | sort -u | wc -l) == "$1" ]]; }
runs_once() { [[ $(places | wc -l) == 5 ]]; }

# What the engine calls the nodes, and where it put them.
look_up() {
  local node id
  for node in "${NODES[@]}"; do
    id=$(docker-compose ps -q "$node")
    [[ -n $id ]] || fail "docker-compose knows no container $node"
    container[$node]=$(docker inspect --format '{{slice .Name 1}}' "$id")
    address[$node]=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$id")
  done
}

everybody_answers() {
  local node answer
  for node in "${NODES[@]}"; do
    [[ $node == "${1:-}" ]] && continue
    wait_for 30 "an answer from $node" answers "${address[$node]}"
    answer=$(ask "${address[$node]}")
    say "http://${address[$node]} ($node): served by $answer"
    places | grep -qx "$answer" || fail "$node answered \"$answer\", where no task runs"
  done
}

comes_up() {
  run docker-compose up --detach --no-build
  look_up
  wait_for 120 "five nodes ready" node_count_is 5
  wait_for 30 "three managers" manager_count_is 3
  run swarmctl node ls
}

serves() {
  local archive
  for archive in "$IMAGES"/*.tar; do
    printf '\n$ swarmctl image load <%s\n' "$archive"
    swarmctl image load <"$archive"
  done
  run swarmctl service create --detach --name nginx1 --publish 80:80 \
    --mount source=/etc/hostname,target=/usr/share/nginx/html/index.html,type=bind,ro nginx:1.12
  wait_for 60 "nginx1 running" replicas_are 1/1
  run swarmctl service ps nginx1
  everybody_answers
}

scales() {
  run swarmctl service scale --detach nginx1=5
  wait_for 60 "five replicas running" replicas_are 5/5
  run swarmctl service ps nginx1
  wait_for 1 "a task on every node" nodes_used_are 5
  everybody_answers
}

updates() {
  local good failed
  keep_asking "${address[worker1]}" "$work" &
  client=$!
  run swarmctl service update --quiet --image nginx:1.13 --update-parallelism 2 --update-delay 1s nginx1
  touch "$work/enough"
  wait "$client"
  client=
  good=$(grep -c good "$work/requests" || true)
  failed=$(grep -c failed "$work/requests" || true)
  say "$good requests were answered during the update, $failed failed."
  [[ $good -gt 0 && $failed == 0 ]] || fail "a visitor saw the update: $(sort -u "$work/errors" | head -3)"
  all_run nginx:1.13 || fail "not every task is nginx:1.13"
  wait_for 5 "the new version at worker2" version_is "${address[worker2]}" nginx:1.13
}

logs() {
  run swarmctl service logs --tail 2 nginx1
  [[ $(swarmctl service logs nginx1 2>/dev/null | grep -c 'GET / HTTP/1.1" 200') -ge 5 ]] || fail "the logs lack the visits"
  local named
  named=$(swarmctl service logs nginx1 2>/dev/null | grep -oE '@[a-z0-9]+ ' | sort -u | wc -l)
  [[ $named == 5 ]] || fail "the logs come from $named nodes instead of five"
}

killed=
leader_dies() {
  local node
  killed=$(leader)
  for node in "${MANAGERS[@]}"; do [[ $node == "$killed" ]] || through=$node; done
  say "$killed leads; from here on the commands go to $through."
  run docker kill "${container[$killed]}"
  local since=$SECONDS
  wait_for 30 "a new leader" has_leader
  run swarmctl service create --detach --name written --mode global busybox:latest sleep 1d
  say "A write was accepted $((SECONDS - since)) s after the kill."
  wait_for 60 "$killed down" node_is "$killed" Down
  wait_for 60 "five replicas on the four that are left" settled_without "$killed"
  run swarmctl node ls
  run swarmctl service ps --filter desired-state=running nginx1
  everybody_answers "$killed"
}

comes_back() {
  run docker start "${container[$killed]}"
  look_up
  wait_for 90 "$killed ready" node_is "$killed" Ready
  wait_for 60 "three managers" manager_count_is 3
  run swarmctl node ls
  wait_for 30 "five replicas and no sixth task" runs_once
  everybody_answers
  through=$killed
  wait_for 30 "an answer to swarmctl on $killed" replicas_are 5/5
}

joins_by_hand() {
  local token
  run docker exec "${container[worker2]}" swarmctl swarm leave
  wait_for 60 "worker2 down" node_is worker2 Down
  run swarmctl node rm worker2
  token=$(swarmctl swarm join-token --quiet worker)
  printf '\n$ docker exec %s swarmctl swarm join --token … %s:2377\n' "${container[worker2]}" "${address[manager2]}"
  on worker2 swarmctl swarm join --token "$token" --advertise-addr "${address[worker2]}" "${address[manager2]}:2377"
  wait_for 30 "worker2 ready" node_is worker2 Ready
  run swarmctl service update --quiet --force nginx1
  wait_for 60 "a task on every node again" nodes_used_are 5
  everybody_answers
}

all_restart() {
  run docker-compose restart --timeout 30
  look_up
  wait_for 120 "five nodes ready" node_count_is 5
  wait_for 60 "three managers" manager_count_is 3
  wait_for 90 "five replicas" runs_once
  run swarmctl service ls
  everybody_answers
}

ends_in_order() {
  local node code
  run docker-compose stop --timeout 30
  for node in "${NODES[@]}"; do
    code=$(docker inspect --format '{{.State.ExitCode}}' "${container[$node]}")
    say "$node ended with $code"
    [[ $code == 0 ]] || fail "$node did not end in order on SIGTERM"
  done
}

check() {
  title "$1"
  "$2"
  passed=$((passed + 1))
}

docker-compose down --volumes --timeout 5 >/dev/null 2>&1 || true
check "Five containers become a swarm of three managers and two workers" comes_up
check "A service with a published port: the address of every container answers" serves
check "Five replicas: one in every container" scales
check "A rolling update, while a visitor keeps asking" updates
check "The logs of all tasks, from all nodes" logs
check "The leader's container is killed: the swarm takes writes, and runs its tasks elsewhere" leader_dies
check "It is started again: it is a manager again, and nothing runs twice" comes_back
check "A worker leaves, and joins again with a token" joins_by_hand
check "The systemd unit: ready when it is, containers outlive the daemon" unit_works
check "All five are restarted: the swarm and its service are back" all_restart
check "All five end in order" ends_in_order
