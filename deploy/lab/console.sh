# To be sourced by scripts that show the lab: prints what is done as one would type it, and waits.
#
# on_failure may be set to a command that shows what a person would look at when a wait was in vain.

bold='' plain=''
[[ -t 1 ]] && bold=$'\033[1m' plain=$'\033[0m'
on_failure=true

title() { printf '\n%s── %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '   %s\n' "$*"; }
fail() {
  printf '\nNot as expected: %s\n' "$*" >&2
  exit 1
}

# One word as a person would type it.
typed() {
  if [[ $1 =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then printf '%s' "$1"; else printf "'%s'" "$1"; fi
}

# Print a command, then run it.
run() {
  local word line=
  for word in "$@"; do line+=" $(typed "$word")"; done
  printf '\n$%s\n' "$line"
  "$@"
}

# Try a condition twice a second until it holds: wait_for SECONDS WHAT COMMAND...
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if ((SECONDS >= deadline)); then
      "$on_failure" >&2 || true
      fail "$what did not happen in time"
    fi
    sleep 0.5
  done
}

# The lab's service, nginx1, as swarmctl shows it.
replicas_are() { [[ $(swarmctl service ls --filter name=nginx1 --format '{{.Replicas}}') == "$1" ]]; }
node_is() { [[ $(swarmctl node ls --filter "name=$1" --format '{{.Status}}') == "$2" ]]; }

# Nodes of the tasks that run, one line each.
places() {
  swarmctl service ps --filter desired-state=running --format '{{.CurrentState}} {{.Node}}' nginx1 |
    awk '$1 == "Running" { print $NF }'
}
running_images() {
  swarmctl service ps --filter desired-state=running --format '{{.CurrentState}} {{.Image}}' nginx1 |
    awk '$1 == "Running" { print $NF }' | sort -u
}
settled_without() { [[ $(places | wc -l) == 5 ]] && ! places | grep -qx "$1"; }
all_run() { [[ $(places | wc -l) == 5 && $(running_images) == "$1" ]]; }

# The page at an address; each request is a connection of its own.
ask() { curl --silent --show-error --fail --max-time 5 "http://$1:80/"; }
answers() { ask "$1" >/dev/null 2>&1; }
version_at() { curl --silent --head --max-time 5 "http://$1:80/" | tr -d '\r' | awk 'tolower($1) == "x-image:" { print $2 }'; }

# A visitor who keeps asking ADDRESS: a line per request into DIRECTORY/requests, until DIRECTORY/enough is there.
keep_asking() {
  until [[ -e $2/enough ]]; do
    if ask "$1" >/dev/null 2>>"$2/errors"; then echo good; else echo failed; fi
  done >"$2/requests"
}
