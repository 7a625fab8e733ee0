#!/bin/bash
# Starts the daemon of a node in a container and, the first time, makes it part of a swarm:
#
#   SWARM_ROLE=init              begin a swarm and write its join tokens to /tokens
#   SWARM_ROLE=manager|worker    join the swarm of SWARM_JOIN (host:port) with the token found in /tokens
#
# Without SWARM_ROLE it is just the daemon.  A node that is in a swarm already only starts.
set -euo pipefail

# An engine mounts a container's cgroups and sysctls read-only unless the container is privileged.  The daemon writes
# to both; CAP_SYS_ADMIN, which it needs in any case, suffices to change that for this container alone.
make_writable() {
  local point options
  while read -r _ _ _ _ point options _; do
    [[ $point == /proc/sys || $point == /sys/fs/cgroup* ]] && [[ ,$options, == *,ro,* ]] || continue
    mount -o remount,bind,rw "$point" || {
      echo "$point is read-only: this container needs CAP_SYS_ADMIN and no AppArmor profile, or privileged." >&2
      exit 1
    }
  done </proc/self/mountinfo
}
make_writable

# The daemon makes groups below its own: on cgroup v2 that needs every process to leave the root group first.
if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
  mkdir -p /sys/fs/cgroup/node
  while read -r pid; do
    echo "$pid" >/sys/fs/cgroup/node/cgroup.procs 2>/dev/null || true
  done </sys/fs/cgroup/cgroup.procs
  sed 's/\([^ ]*\)/+\1/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
fi

swarmd "$@" &
daemon=$!
trap 'kill -TERM "$daemon" 2>/dev/null' TERM INT

state() { swarmctl info --format '{{.Swarm.LocalNodeState}}' 2>/dev/null || true; }

# Wait for something that another process brings about; give up when the daemon is gone.
until_true() {
  until "$@"; do
    kill -0 "$daemon" 2>/dev/null || { wait "$daemon" || exit; exit 0; }
    sleep 0.3
  done
}

answers() { [[ -n $(state) ]]; }
address() { hostname -i | awk '{ print $1 }'; }
join() { swarmctl swarm join --token "$(<"/tokens/$SWARM_ROLE")" --advertise-addr "$(address)" "$SWARM_JOIN"; }

until_true answers
if [[ -n ${SWARM_ROLE:-} && $(state) == inactive ]]; then
  if [[ $SWARM_ROLE == init ]]; then
    swarmctl swarm init --advertise-addr "$(address)"
    for role in worker manager; do
      swarmctl swarm join-token --quiet "$role" >"/tokens/$role.new"
      mv "/tokens/$role.new" "/tokens/$role"
    done
  else
    until_true test -s "/tokens/$SWARM_ROLE"
    until_true join
  fi
fi

# A trapped signal ends wait early; the second one is for the daemon's own end.
wait "$daemon" || true
wait "$daemon"
