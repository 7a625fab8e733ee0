"""From the limits of a container to the writes that set them, and to those that change them while it runs.

``port.Limits`` → resources of a config.json → settings (``control_files.py``) → writes into its cgroups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import oci_resources as oci
from swarmd.node.runtime.core.cgroups import ContainerGroups, Write
from swarmd.node.runtime.core.control_files import PERIOD, V2, Choice, Setting, settings
from swarmd.node.runtime.core.limit_checks import NodeFacts
from swarmd.node.runtime.port import Limits, Throttle

_MINIMUM_QUOTA = 1000
_NANO = 1_000_000_000
# What a file says where nothing was ever written; the CPUs and memory nodes are those of the node.
_UNSET = {
    "memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1", "memory.soft_limit_in_bytes": "-1",
    "memory.oom_control": "0", "memory.swappiness": "60", "memory.kmem.tcp.limit_in_bytes": "-1",
    "memory.low": "0", "cpu.idle": "0", "cpu.shares": "1024", "cpu.weight": "100",
    "cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": "-1", "cpu.max": f"max {PERIOD}",
    "cpu.cfs_burst_us": "0", "cpu.max.burst": "0", "cpu.rt_runtime_us": "0", "cpu.rt_period_us": "1000000",
    "blkio.weight": "500", "blkio.bfq.weight": "100", "io.bfq.weight": "100", "io.weight": "default 100",
    "net_cls.classid": "0",
}  # fmt: skip
Key = tuple[str, str]


class Change(msgspec.Struct, frozen=True):
    """One write to a cgroup in use, and the one that takes it back."""

    do: Write
    undo: Write


def from_config(limits: Limits, devices: Mapping[str, tuple[int, int]]) -> oci.Resources:
    """The same limits as config.json has them; ``devices``: path → (major, minor) of those throttled.

    ``limits`` have been checked (``limit_checks.check``).  Without a word about swap, there may be as much
    of it as memory: Docker's rule.
    """
    swap = limits.memory_swap or 2 * limits.memory
    quota, period = limits.cpu_quota, limits.cpu_period
    if limits.nano_cpus:
        quota, period = max(_MINIMUM_QUOTA, limits.nano_cpus * PERIOD // _NANO), PERIOD
    return oci.Resources(
        memory=_if_any(
            oci.Memory(
                limit=limits.memory or None,
                reservation=limits.memory_reservation or None,
                swap=swap or None,
                swappiness=limits.swappiness,
                disable_oom_killer=limits.oom_kill_disable,
            )
        ),
        cpu=_if_any(
            oci.Cpu(
                shares=limits.cpu_shares or None,
                quota=quota or None,
                period=period or None,
                cpus=limits.cpuset_cpus,
                mems=limits.cpuset_mems,
            )
        ),
        pids=_if_any(oci.Pids(limit=limits.pids)),
        block_io=_if_any(
            oci.BlockIO(
                weight=limits.blkio_weight or None,
                throttle_read_bps_device=_throttles(limits.read_bps, devices),
                throttle_write_bps_device=_throttles(limits.write_bps, devices),
                throttle_read_iops_device=_throttles(limits.read_iops, devices),
                throttle_write_iops_device=_throttles(limits.write_iops, devices),
            )
        ),
    )


Part = TypeVar("Part", oci.Memory, oci.Cpu, oci.Pids, oci.BlockIO)


def _if_any(part: Part) -> Part | None:
    return None if part == type(part)() else part


def _throttles(
    throttles: tuple[Throttle, ...], devices: Mapping[str, tuple[int, int]]
) -> tuple[oci.ThrottleDevice, ...]:
    return tuple(
        oci.ThrottleDevice(major=devices[each.device][0], minor=devices[each.device][1], rate=each.rate)
        for each in throttles
    )


def devices_of(limits: Limits) -> tuple[str, ...]:
    """The paths of the block devices that are throttled."""
    every = (*limits.read_bps, *limits.write_bps, *limits.read_iops, *limits.write_iops)
    return tuple(dict.fromkeys(throttle.device for throttle in every))


def controllers(resources: oci.Resources) -> frozenset[str]:
    """The v1 controllers that these limits may need a group of."""
    return frozenset(
        choice.where for setting in settings(resources) for choice in setting.choices if choice.where != V2
    )


def writes(groups: ContainerGroups, resources: oci.Resources, facts: NodeFacts) -> tuple[Write, ...]:
    """What to write for these limits, in order.

    Raises :class:`Invalid` for a limit that this machine's kernel has no file for.
    """
    found: dict[Key, Write] = {}
    for setting in settings(resources):
        choice = _available(setting, groups, facts)
        if choice is not None:
            write = Write(f"{_directory(groups, choice.where)}/{choice.file}", choice.value, choice.key)
            found.setdefault((write.path, write.key), write)
    return tuple(found.values())


def ignored(groups: ContainerGroups, resources: oci.Resources, facts: NodeFacts) -> tuple[str, ...]:
    """What :func:`writes` leaves out because this machine cannot do it and little depends on it."""
    return tuple(
        f"{setting.field} {setting.wanted} has no effect: the kernel of this machine has no file for it"
        for setting in settings(resources)
        if _available(setting, groups, facts) is None
    )


def _available(setting: Setting, groups: ContainerGroups, facts: NodeFacts) -> Choice | None:
    for choice in setting.choices:
        if choice.file in facts.files and _directory(groups, choice.where):
            return choice
    if setting.desirable:
        return None
    files = " nor ".join(dict.fromkeys(choice.file for choice in setting.choices))
    raise Invalid(
        f"{setting.field} {setting.wanted}: the cgroups of this machine have no {files}; "
        "leave the limit out, or run it on a node whose kernel has the controller"
    )


def _directory(groups: ContainerGroups, where: str) -> str:
    return groups.v2 if where == V2 else groups.v1.get(where, "")


def changes(
    before: tuple[Write, ...], after: tuple[Write, ...], now: Mapping[str, str], facts: NodeFacts
) -> tuple[Change, ...]:
    """From the writes of the old limits to those of the new, in an order the kernel takes.

    ``now``: path → text of the files whose order matters (:func:`ordered_files`).
    """
    old = {(write.path, write.key): write for write in before}
    new = {(write.path, write.key): write for write in after}
    out = []
    for key in [*new, *(key for key in old if key not in new)]:
        do = new.get(key) or _unset(*key, facts)
        undo = old.get(key) or _unset(*key, facts)
        if do.value != undo.value or key not in old:  # what is not known to be so is written
            out.append(Change(do, undo))
    for first, second in _ORDERED:
        _put_in_order(out, first, second, now)
    return tuple(out)


# Of each pair the second must not be exceeded by the first: the limit of memory is below that of memory and
# swap, and a short period makes a quota large.
_ORDERED = (
    ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
)


def ordered_files(groups: ContainerGroups) -> tuple[str, ...]:
    """Those whose contents :func:`changes` needs to see."""
    return tuple(
        f"{groups.v1[where]}/{second}"
        for where, (_, second) in zip(("memory", "cpu"), _ORDERED, strict=True)
        if where in groups.v1
    )


def _put_in_order(out: list[Change], first: str, second: str, now: Mapping[str, str]) -> None:
    """Raise the second before the first, lower it after."""
    places = [index for index, change in enumerate(out) if _name(change) in (first, second)]
    if len(places) < 2:
        return
    pair = sorted((out[index] for index in places), key=lambda change: _name(change) == second)
    if _number(pair[1].do.value) >= _number(now.get(pair[1].do.path, "0")):
        pair.reverse()
    for index, change in zip(places, pair, strict=True):
        out[index] = change


def _name(change: Change) -> str:
    return change.do.path.rpartition("/")[2]


def _number(text: str) -> int:
    value = int(text.strip() or 0)
    return 1 << 64 if value < 0 else value


def _unset(path: str, key: str, facts: NodeFacts) -> Write:
    name = path.rpartition("/")[2]
    device, _, rate = key.partition(" ")
    if name == "io.max":
        return Write(path, f"{device} {rate}=max", key)
    if name.startswith("blkio.throttle.") or name == "net_prio.ifpriomap":
        return Write(path, f"{key} 0", key)
    if "weight" in name and key not in ("", "default"):
        return Write(path, f"{key} {'default' if name == 'io.weight' else 0}", key)
    if name.startswith("cpuset."):
        return Write(path, facts.cpus if name == "cpuset.cpus" else facts.mems, key)
    return Write(path, _UNSET.get(name, "max"), key)
