#!/bin/bash
# The lab: a three-node swarm on this machine, shown command by command.  Each command is printed as one would
# type it, then its output.  The first thing that is not as expected ends the lab with exit code 1; the swarm is
# left running either way, to be looked at.
#
#   deploy/demo/lab.sh [NAME]          NAME is that of the local cluster (demo)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lab/console.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

NAME=${1:-demo}
IMAGES=.lab/images
export PATH=$PWD/.venv/bin:$PATH
export SWARMCTL_CONTEXT=$NAME-node1
unset SWARMCTL_HOST

work=$(mktemp -d)
client=
finish() {
  local status=$?
  [[ -n $client ]] && kill "$client" 2>/dev/null
  rm -rf "$work"
  [[ $status == 0 ]] || printf '\nThe lab ended early. The swarm is left as it is; "make demo-down" removes it.\n' >&2
}
trap finish EXIT

tasks() { swarmctl service ps --no-trunc nginx1; }
on_failure=tasks
update_is() { [[ $(swarmctl service inspect --format '{{.UpdateStatus.State}}' nginx1 2>/dev/null) == "$1" ]]; }

addresses=()
read_addresses() {
  mapfile -t addresses < <(swarmctl local ls --name "$NAME" | awk '$1 ~ /^node[0-9]+$/ { print $2 }')
  [[ ${#addresses[@]} == 3 ]] || fail "the local cluster has ${#addresses[@]} nodes instead of three"
}

images() {
  title "The images: two versions of nginx and busybox, made from Debian's packages"
  run python3 deploy/lab/build_images.py "$IMAGES"
}

swarm() {
  title "A swarm of three nodes on this machine"
  swarmctl local down --name "$NAME" >/dev/null
  run swarmctl local up --name "$NAME" --nodes 3
  read_addresses
  say "From here on SWARMCTL_CONTEXT is $SWARMCTL_CONTEXT: the commands go to node1."
  run swarmctl node ls
}

first_service() {
  title "A service with a published port; only node1 has the images"
  local archive
  for archive in "$IMAGES"/*.tar; do
    run swarmctl image load -i "$archive"
  done
  run swarmctl image ls
  run swarmctl service create --detach --name nginx1 --publish 80:80 \
    --mount source=/etc/hostname,target=/usr/share/nginx/html/index.html,type=bind,ro nginx:1.12
  run swarmctl service ls
  wait_for 60 "nginx1 running" replicas_are 1/1
  run swarmctl service ps nginx1
  run swarmctl service inspect --pretty nginx1
}

every_node_answers() {
  title "The port is open on every node: each answers with the host name of the node that serves"
  local address answer place
  place=$(places)
  for address in "${addresses[@]}"; do
    wait_for 15 "an answer from $address" answers "$address"
    run curl -s "http://$address:80"
    answer=$(ask "$address")
    [[ $answer == "$place" ]] || fail "$address answered \"$answer\", the task runs on \"$place\""
  done
}

scale() {
  title "Five replicas, the emptiest node first"
  run swarmctl service scale nginx1=5
  run swarmctl service ps nginx1
  wait_for 15 "five replicas running" replicas_are 5/5
  [[ $(places | sort -u | wc -l) == 3 ]] || fail "the tasks are not on all three nodes"
  title "One address, different nodes behind it"
  local _ answer served=()
  for _ in {1..20}; do
    answer=$(ask "${addresses[0]}")
    served+=("$answer")
  done
  say "Twenty requests to ${addresses[0]} were served by: ${served[*]}"
  [[ $(printf '%s\n' "${served[@]}" | sort -u | wc -l) -ge 2 ]] || fail "always the same node answered"
  run swarmctl service logs --tail 3 nginx1
}

rolling_update() {
  title "A rolling update, while a visitor keeps asking"
  rm -f "$work/enough"
  keep_asking "${addresses[1]}" "$work" &
  client=$!
  run swarmctl service update --image nginx:1.13 --update-parallelism 2 --update-delay 2s nginx1
  touch "$work/enough"
  wait "$client"
  client=
  local good failed
  good=$(grep -c good "$work/requests" || true)
  failed=$(grep -c failed "$work/requests" || true)
  say "$good requests were answered during the update, $failed failed."
  [[ $good -gt 0 && $failed == 0 ]] || fail "a visitor saw the update: $(sort -u "$work/errors" | head -3)"
  [[ $(version_at "${addresses[2]}") == nginx:1.13 ]] || fail "the new version does not answer"
  run swarmctl service ps nginx1
}

roll_back() {
  title "And back"
  run swarmctl service rollback nginx1
  all_run nginx:1.12 || fail "not every task is nginx:1.12 again"
  run swarmctl service ls
}

broken_image() {
  title "An image that cannot start rolls back by itself"
  run_import
  run swarmctl service update --detach --image nginx:broken --update-failure-action rollback nginx1
  wait_for 120 "the roll-back" update_is rollback_completed
  run swarmctl service inspect --format '{{.UpdateStatus.State}}: {{.UpdateStatus.Message}}' nginx1
  wait_for 60 "nginx:1.12 everywhere" all_run nginx:1.12
  run swarmctl service ps nginx1
}
run_import() {
  printf '\n$ tar -c -T /dev/null | swarmctl image import -c %s - nginx:broken\n' "'CMD [\"nginx\"]'"
  tar -c -T /dev/null | swarmctl image import -c 'CMD ["nginx"]' - nginx:broken
}

dead_node() {
  title "A node dies: its tasks run elsewhere; it comes back: nothing runs twice"
  run swarmctl local kill --name "$NAME" node3
  wait_for 60 "node3 down" node_is node3 Down
  run swarmctl node ls
  wait_for 60 "five replicas on the two that are left" settled_without node3
  run swarmctl service ls
  run swarmctl service ps --filter desired-state=running nginx1
  wait_for 15 "an answer from node1" answers "${addresses[0]}"
  run swarmctl local start --name "$NAME" node3
  wait_for 60 "node3 ready" node_is node3 Ready
  run swarmctl node ls
  wait_for 30 "five replicas and no sixth task" all_run nginx:1.12
  wait_for 30 "an answer from node3" answers "${addresses[2]}"
  run curl -s "http://${addresses[2]}:80"
}

farewell() {
  title "The swarm is left running. Try:"
  cat <<TEXT

    export PATH=$PWD/.venv/bin:\$PATH SWARMCTL_CONTEXT=$SWARMCTL_CONTEXT
    swarmctl service ls
    swarmctl service logs -f nginx1
    swarmctl service scale nginx1=8
    swarmctl node update --availability drain node2
    curl http://${addresses[1]}
    swarmctl local kill --name $NAME node3 && swarmctl local start --name $NAME node3
    swarmctl local exec --name $NAME node2 -- ip address

    make demo-down          # removes all of it

TEXT
}

images
swarm
first_service
every_node_answers
scale
rolling_update
roll_back
broken_image
dead_node
farewell
