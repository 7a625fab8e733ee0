"""The flags about a container itself, for services; :mod:`run_flags` spells them for a single container.

Names are Docker's: those of its services where they have the flag, else those of ``docker run``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmd.cli import container_edit as edit
from swarmd.cli.container_text import (
    parse_device,
    parse_dns,
    parse_host,
    parse_host_gone,
    parse_isolation,
    parse_number,
    parse_security,
    parse_swap,
    parse_swappiness,
    parse_sysctl,
    parse_throttle_bytes,
    parse_throttle_count,
    parse_ulimit,
)
from swarmd.cli.flag_table import (
    BYTES,
    COUNT,
    CPUS,
    DURATION,
    TEXT,
    WORDS,
    Collection,
    Field,
    Setting,
)
from swarmd.cli.grammar import Parsed
from swarmd.cli.mount_text import parse_mount
from swarmd.cli.service_edit import edit_env
from swarmd.cli.spec_text import parse_capability, parse_env

if TYPE_CHECKING:
    from swarmd.rpc.v1 import types_pb2

CONTAINER, LIMITS = "template.container", "template.limits"
MOST_PROFILE = 1 << 20

FIELDS: tuple[Field, ...] = (
    Field("workdir", TEXT, f"{CONTAINER}.workdir", "Working directory in the container", "-w"),
    Field("user", TEXT, f"{CONTAINER}.user", "User name or UID (NAME|UID[:GROUP|GID])", "-u"),
    Field("hostname", TEXT, f"{CONTAINER}.hostname", "Container hostname"),
    Field("domainname", TEXT, f"{CONTAINER}.domainname", "Container NIS domain name"),
    Field("entrypoint", WORDS, f"{CONTAINER}.command", "Overwrite the image's entrypoint"),
    Field("stop-signal", TEXT, f"{CONTAINER}.stop_signal", "Signal to stop the container"),
    Field("stop-grace-period", DURATION, f"{CONTAINER}.stop_grace", "Wait before a kill (10s)"),
    Field("init", None, f"{CONTAINER}.init", "Run a small init as the container's first process"),
    Field("tty", None, f"{CONTAINER}.tty", "Give the container a terminal", "-t"),
    Field("interactive", None, f"{CONTAINER}.open_stdin", "Keep standard input open", "-i"),
    Field("read-only", None, f"{CONTAINER}.read_only", "Mount the root filesystem read only"),
    Field("privileged", None, f"{CONTAINER}.privileged", "All capabilities and devices, nothing masked"),
    Field("no-new-privileges", None, f"{CONTAINER}.no_new_privileges", "Processes cannot gain privileges"),
    Field("runtime", TEXT, "template.runtime", "Program that runs the containers (of the node's)"),
    Field("oom-score-adj", Parsed("int", parse_number), f"{CONTAINER}.oom_score_adj",
          "Preference of the kernel when memory is out (-1000 to 1000)"),
    Field("shm-size", BYTES, f"{CONTAINER}.shm_size", "Size of /dev/shm (64m)"),
    Field("pid", TEXT, f"{CONTAINER}.pid_mode", "Process namespace: host"),
    Field("ipc", TEXT, f"{CONTAINER}.ipc_mode", "IPC namespace: private|host"),
    Field("uts", TEXT, f"{CONTAINER}.uts_mode", "UTS namespace: host"),
    Field("cgroupns", TEXT, f"{CONTAINER}.cgroupns_mode", "Cgroup namespace: private|host"),
    Field("userns", TEXT, f"{CONTAINER}.userns", "User namespace: host (none, whatever the node is set to)"),
    Field("isolation", Parsed("string", parse_isolation), "", "Only default is known"),
)  # fmt: skip

RESOURCES: tuple[Field, ...] = (
    Field("limit-cpu", CPUS, f"{LIMITS}.nano_cpus", "Limit CPUs"),
    Field("limit-memory", BYTES, f"{LIMITS}.memory", "Limit memory"),
    Field("limit-pids", COUNT, f"{LIMITS}.pids", "Limit the number of processes (0 = no limit)"),
    Field("memory-swap", Parsed("bytes", parse_swap), f"{LIMITS}.memory_swap",
          "Limit memory and swap together (-1 = any swap; twice the memory)"),
    Field("memory-swappiness", Parsed("int", parse_swappiness), f"{LIMITS}.memory_swappiness",
          "How readily memory is swapped out (0 to 100, -1 = default)"),
    Field("memory-reservation", BYTES, f"{LIMITS}.memory_reservation", "Soft limit of memory"),
    Field("oom-kill-disable", None, f"{LIMITS}.oom_kill_disable", "Processes wait when memory is out"),
    Field("cpu-shares", COUNT, f"{LIMITS}.cpu_shares", "Share of busy CPUs, relative (1024)"),
    Field("cpu-quota", COUNT, f"{LIMITS}.cpu_quota", "CPU time in each period, microseconds"),
    Field("cpu-period", COUNT, f"{LIMITS}.cpu_period", "Period of the quota, microseconds (100000)"),
    Field("cpuset-cpus", TEXT, f"{LIMITS}.cpuset_cpus", "CPUs it may run on (0-3,7)"),
    Field("cpuset-mems", TEXT, f"{LIMITS}.cpuset_mems", "Memory nodes it may use (0-1)"),
    Field("blkio-weight", COUNT, f"{LIMITS}.blkio_weight", "Share of busy disks, relative (10 to 1000)"),
)  # fmt: skip


def _env(spec: types_pb2.ServiceSpec, add: Sequence[str], remove: Sequence[str]) -> None:
    edit_env(spec, parse_env(add, os.environ), remove)


def _profile(path: str) -> str:
    """The content of a seccomp profile.  Raises ValueError with a sentence."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MOST_PROFILE + 1)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"opening seccomp profile ({path}) failed: {error}") from error
    if len(text) > MOST_PROFILE:
        raise ValueError(f"seccomp profile ({path}) is larger than 1 MiB")
    return text


def _throttle(name: str, parse: Any, what: str) -> Collection:
    path = f"{LIMITS}.{'read' if 'read' in name else 'write'}_{name.rpartition('-')[2]}"
    add = Parsed("throttle", parse)
    return Collection(name, add, TEXT, edit.keyed(path, "device"), f"Limit {what} (DEVICE:RATE)", "DEVICE")


ENV = Collection("env", TEXT, TEXT, _env, "Environment variable", "NAME", "-e")
LABELS = Collection(
    "container-label", TEXT, TEXT, edit.labels(f"{CONTAINER}.labels"), "Container label", "KEY"
)
MOUNTS = Collection("mount", Parsed("mount", parse_mount), TEXT, edit.mounts, "Filesystem mount", "TARGET")
HOSTS = Collection("host", Parsed("host", parse_host), Parsed("host", parse_host_gone), edit.hosts,
                   "Host-to-IP mapping (NAME:IP)", "NAME[:IP]")  # fmt: skip
COLLECTIONS: tuple[Collection, ...] = (
    LABELS,
    ENV,
    MOUNTS,
    HOSTS,
    Collection("group", TEXT, TEXT, edit.texts(f"{CONTAINER}.groups"), "Supplementary group", "GROUP"),
    Collection("dns", Parsed("ip", parse_dns), Parsed("ip", parse_dns), edit.texts(f"{CONTAINER}.dns"),
               "DNS server", "IP"),
    Collection("dns-search", TEXT, TEXT, edit.texts(f"{CONTAINER}.dns_search"),
               "DNS search domain", "DOMAIN"),
    Collection("dns-option", TEXT, TEXT, edit.texts(f"{CONTAINER}.dns_options"), "DNS option", "OPTION"),
    Collection("ulimit", Parsed("ulimit", parse_ulimit), TEXT, edit.keyed(f"{CONTAINER}.ulimits", "name"),
               "Ulimit (NAME=SOFT[:HARD])", "NAME"),
    Collection("sysctl", Parsed("sysctl", parse_sysctl), TEXT, edit.labels(f"{CONTAINER}.sysctls"),
               "Sysctl of the container's namespaces (NAME=VALUE)", "NAME"),
    Collection("device", Parsed("device", parse_device), TEXT, edit.keyed(f"{CONTAINER}.devices", "source"),
               "Device of the node (SOURCE[:TARGET][:rwm])", "SOURCE"),
    Collection("device-cgroup-rule", TEXT, TEXT, edit.texts(f"{CONTAINER}.device_rules"),
               "Rule for devices (c 1:3 rwm)", "RULE"),
    _throttle("device-read-bps", parse_throttle_bytes, "bytes read a second"),
    _throttle("device-write-bps", parse_throttle_bytes, "bytes written a second"),
    _throttle("device-read-iops", parse_throttle_count, "reads a second"),
    _throttle("device-write-iops", parse_throttle_count, "writes a second"),
)  # fmt: skip

CAPABILITY = Parsed("capability", parse_capability)
SETTINGS: tuple[Setting, ...] = (
    Setting("cap-add", CAPABILITY, lambda spec, names: edit.capabilities(spec, names, ()),
            "Add a Linux capability"),
    Setting("cap-drop", CAPABILITY, lambda spec, names: edit.capabilities(spec, (), names),
            "Drop a Linux capability"),
    Setting("security-opt", Parsed("option", parse_security), edit.security(_profile),
            "no-new-privileges, seccomp=default|unconfined|FILE"),
)  # fmt: skip
