# To be sourced by lab.sh: deploy/swarmd.service under a real systemd, which is process 1 of a container of its own.

unit_state_is() { [[ $(on machine systemctl is-active swarmd 2>/dev/null) == "$1" ]]; }
main_pid() { on machine systemctl show --property MainPID --value swarmd; }
is_restarted() { unit_state_is active && [[ $(main_pid) != "$1" ]]; }
machine_replicas_are() { [[ $(on machine swarmctl service ls --format '{{.Replicas}}' 2>/dev/null) == "$1" ]]; }
sleepers() { on machine pgrep --exact sleep; }

unit_works() {
  local address=172.29.77.20 main before
  mkdir "$work/machine"
  cp deploy/swarmd.service deploy/swarmd.toml deploy/compose/systemd.Dockerfile "$work/machine"
  timeout 300 docker build --tag swarmd:machine --file "$work/machine/systemd.Dockerfile" "$work/machine" \
    >"$STATE/machine.log" 2>&1 || fail "the image with systemd cannot be built: $(tail -n 5 "$STATE/machine.log")"
  container[machine]=${COMPOSE_PROJECT_NAME}_machine
  run docker run --detach --name "${container[machine]}" --hostname machine \
    --network "${COMPOSE_PROJECT_NAME}_swarm" --ip "$address" --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add SYS_PTRACE \
    --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
    --tmpfs /run --tmpfs /run/lock --volume /var/lib/swarmd swarmd:machine
  wait_for 60 "systemd's word that swarmd is ready" unit_state_is active
  run on machine systemctl status --no-pager --lines 0 swarmd
  on machine swarmctl swarm init --advertise-addr "$address" >/dev/null
  on machine swarmctl image load --quiet <"$IMAGES/busybox.tar"
  on machine swarmctl service create --quiet --name asleep --replicas 2 busybox:latest sleep 1d
  before=$(sleepers)
  [[ $(wc -l <<<"$before") == 2 ]] || fail "two containers sleep, but these processes were found: $before"

  main=$(main_pid)
  run on machine systemctl restart swarmd
  is_restarted "$main" || fail "systemctl restart came back before swarmd was ready"
  wait_for 30 "two replicas after systemctl restart" machine_replicas_are 2/2
  [[ $(sleepers) == "$before" ]] || fail "systemctl restart cost containers"

  main=$(main_pid)
  run on machine kill -KILL "$main"
  wait_for 30 "a restart by systemd" is_restarted "$main"
  wait_for 30 "two replicas after kill -KILL" machine_replicas_are 2/2
  [[ $(sleepers) == "$before" ]] || fail "the death of the daemon cost containers"
  say "The same two processes slept through both."

  run on machine swarmctl swarm leave --force
  [[ -z $(sleepers || true) ]] || fail "containers outlived the swarm"
  run on machine systemctl stop swarmd
  unit_state_is inactive || fail "systemctl stop left the unit $(on machine systemctl is-active swarmd || true)"
  docker rm --force --volumes "${container[machine]}" >/dev/null
  unset 'container[machine]'
}
