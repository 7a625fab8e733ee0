"""Which control files express the resources of a config.json, in cgroup v1 and v2, and with which values.

A setting has one choice for each way a kernel may offer it; ``limits.py`` takes the first that this machine
has.  A choice with a ``key`` writes one line of a file that has a line for each device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import msgspec

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import oci_resources as oci

V2 = "v2"
PERIOD = 100_000
_PAGE_SIZE = re.compile(r"[1-9][0-9]*[KMG]B")
_FILE = re.compile(r"[a-z_]+(\.[A-Za-z0-9_]+)+")


class Choice(msgspec.Struct, frozen=True):
    """``where``: the v1 controller, or ``v2``."""

    where: str
    file: str
    value: str
    key: str = ""


class Setting(msgspec.Struct, frozen=True):
    """One thing asked for; what no choice can give is refused, unless it is only ``desirable``."""

    field: str
    wanted: object
    choices: tuple[Choice, ...]
    desirable: bool = False


def settings(resources: oci.Resources) -> list[Setting]:
    """Everything to be set, in an order in which it can be set for a new cgroup.

    Raises :class:`Invalid` for values that no kernel takes.
    """
    return [
        *_memory(resources.memory or oci.Memory()),
        *_cpu(resources.cpu or oci.Cpu()),
        *_pids(resources.pids or oci.Pids()),
        *_block_io(resources.block_io or oci.BlockIO()),
        *_others(resources),
        *_unified(resources),
    ]


def _memory(memory: oci.Memory) -> Iterator[Setting]:
    limit, swap = memory.limit, memory.swap
    if limit:
        yield _plain("memory.limit", limit, ("memory", "memory.limit_in_bytes"), (V2, "memory.max"))
    if limit == -1 and not swap:
        swap = -1  # with less swap than memory the kernel would refuse the memory
    if swap:
        yield _swap(swap, limit)
    if memory.reservation:
        low = "0" if memory.reservation < 0 else str(memory.reservation)
        soft = Choice("memory", "memory.soft_limit_in_bytes", str(memory.reservation))
        yield Setting("memory.reservation", memory.reservation, (soft, Choice(V2, "memory.low", low)))
    if memory.swappiness is not None:
        yield _plain("memory.swappiness", memory.swappiness, ("memory", "memory.swappiness"))
    if memory.disable_oom_killer:
        yield _plain("memory.disableOOMKiller", 1, ("memory", "memory.oom_control"))
    if memory.kernel_tcp:
        where = ("memory", "memory.kmem.tcp.limit_in_bytes")
        yield _plain("memory.kernelTCP", memory.kernel_tcp, where, desirable=True)


def _swap(swap: int, limit: int | None) -> Setting:
    """v1 counts memory and swap together, v2 the swap alone."""
    alone = "max"
    if swap > 0:
        if not limit or limit < 0 or swap < limit:
            raise Invalid(f"memory.swap {swap}: it is memory and swap together, and the memory is {limit}")
        alone = str(swap - limit)
    choices = (
        Choice("memory", "memory.memsw.limit_in_bytes", str(swap)),
        Choice(V2, "memory.swap.max", alone),
    )
    # As nobody asked for: what Docker sets beside every memory limit.
    desirable = swap < 0 or limit is None or swap == 2 * limit
    return Setting("memory.swap", swap, choices, desirable)


def _cpu(cpu: oci.Cpu) -> Iterator[Setting]:
    if cpu.idle:
        yield _plain("cpu.idle", cpu.idle, ("cpu", "cpu.idle"), (V2, "cpu.idle"))
    if cpu.shares and not cpu.idle:  # an idle group has the least weight there is
        shares = Choice("cpu", "cpu.shares", str(cpu.shares))
        yield Setting("cpu.shares", cpu.shares, (shares, Choice(V2, "cpu.weight", str(weight(cpu.shares)))))
    if cpu.period or cpu.quota:
        yield from _quota(cpu.quota or 0, cpu.period or PERIOD)
    if cpu.burst:
        yield _plain("cpu.burst", cpu.burst, ("cpu", "cpu.cfs_burst_us"), (V2, "cpu.max.burst"))
    if cpu.realtime_period:
        yield _plain("cpu.realtimePeriod", cpu.realtime_period, ("cpu", "cpu.rt_period_us"))
    if cpu.realtime_runtime:
        yield _plain("cpu.realtimeRuntime", cpu.realtime_runtime, ("cpu", "cpu.rt_runtime_us"))
    if cpu.cpus:
        yield _plain("cpu.cpus", cpu.cpus, ("cpuset", "cpuset.cpus"), (V2, "cpuset.cpus"))
    if cpu.mems:
        yield _plain("cpu.mems", cpu.mems, ("cpuset", "cpuset.mems"), (V2, "cpuset.mems"))


def _quota(quota: int, period: int) -> Iterator[Setting]:
    """v2 has both in one file, which stands with the quota."""
    yield Setting("cpu.period", period, (Choice("cpu", "cpu.cfs_period_us", str(period)),), desirable=True)
    v1, v2 = ("-1", "max") if quota <= 0 else (str(quota), str(quota))
    choices = (Choice("cpu", "cpu.cfs_quota_us", v1), Choice(V2, "cpu.max", f"{v2} {period}"))
    yield Setting("cpu.quota", quota, choices)


def weight(shares: int) -> int:
    """``cpu.weight`` (1 to 10000) for shares (2 to 262144), so that the defaults 1024 and 100 meet.

    The curve that runc 1.3.2 and crun 1.23 agreed on; a straight line would make 1024 shares a weight of 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    power = math.log2(shares)
    exponent = (power * power + 125 * power) / 612 - 7 / 34
    return math.ceil(round(10**exponent, 6))


def _pids(pids: oci.Pids) -> Iterator[Setting]:
    if pids.limit:
        value = "max" if pids.limit < 0 else str(pids.limit)
        choices = (Choice("pids", "pids.max", value), Choice(V2, "pids.max", value))
        yield Setting("pids.limit", pids.limit, choices)


def _block_io(io: oci.BlockIO) -> Iterator[Setting]:
    if io.weight:
        yield Setting("blockIO.weight", io.weight, _weights(io.weight, ""))
    for each in io.weight_device:
        if each.weight:
            key = f"{each.major}:{each.minor}"
            yield Setting("blockIO.weightDevice", f"{key} {each.weight}", _weights(each.weight, key))
    rates = (
        ("throttleReadBpsDevice", io.throttle_read_bps_device, "read_bps_device", "rbps"),
        ("throttleWriteBpsDevice", io.throttle_write_bps_device, "write_bps_device", "wbps"),
        ("throttleReadIOPSDevice", io.throttle_read_iops_device, "read_iops_device", "riops"),
        ("throttleWriteIOPSDevice", io.throttle_write_iops_device, "write_iops_device", "wiops"),
    )
    for field, throttles, file, name in rates:
        for throttle in throttles:
            device, rate = f"{throttle.major}:{throttle.minor}", throttle.rate
            choices = (
                Choice("blkio", f"blkio.throttle.{file}", f"{device} {rate}", device),
                Choice(V2, "io.max", f"{device} {name}={rate or 'max'}", f"{device} {name}"),
            )
            yield Setting(f"blockIO.{field}", f"{device} {rate}", choices)


def _weights(wanted: int, device: str) -> tuple[Choice, ...]:
    """10 to 1000 in v1 and for bfq, 1 to 10000 in ``io.weight``."""
    prefix, suffix = (f"{device} ", "_device") if device else ("", "")
    plain, scaled = f"{prefix}{wanted}", f"{prefix or 'default '}{1 + (wanted - 10) * 9999 // 990}"
    return (
        Choice("blkio", f"blkio.weight{suffix}", plain, device),
        Choice("blkio", f"blkio.bfq.weight{suffix}", plain, device),
        Choice(V2, "io.bfq.weight", plain, device),
        Choice(V2, "io.weight", scaled, device or "default"),
    )


def _others(resources: oci.Resources) -> Iterator[Setting]:
    for page in resources.hugepage_limits:
        if not _PAGE_SIZE.fullmatch(page.page_size):
            raise Invalid(f"hugepageLimits.pageSize {page.page_size!r}: write it like 2MB")
        file = f"hugetlb.{page.page_size}"
        where = (("hugetlb", f"{file}.limit_in_bytes"), (V2, f"{file}.max"))
        yield _plain(f"hugepageLimits {page.page_size}", page.limit, *where)
    network = resources.network or oci.Network()
    if network.class_id:
        yield _plain("network.classID", network.class_id, ("net_cls", "net_cls.classid"), desirable=True)
    for each in network.priorities:
        choice = Choice("net_prio", "net_prio.ifpriomap", f"{each.name} {each.priority}", each.name)
        yield Setting("network.priorities", choice.value, (choice,), desirable=True)
    for name, rdma in resources.rdma.items():
        handles = "max" if rdma.hca_handles is None else rdma.hca_handles
        objects = "max" if rdma.hca_objects is None else rdma.hca_objects
        value = f"{name} hca_handle={handles} hca_object={objects}"
        yield Setting("rdma", value, tuple(Choice(where, "rdma.max", value, name) for where in ("rdma", V2)))


def _unified(resources: oci.Resources) -> Iterator[Setting]:
    for file, value in resources.unified.items():
        if not _FILE.fullmatch(file) or file.startswith("cgroup."):
            raise Invalid(f"unified {file!r}: name a control file of cgroup v2, like memory.high")
        yield Setting(f"unified {file}", value, (Choice(V2, file, value),))


def _plain(field: str, wanted: int | str, *where: tuple[str, str], desirable: bool = False) -> Setting:
    """The same text in each file, but for "unlimited", which v2 calls ``max``."""
    choices = tuple(
        Choice(place, file, "max" if wanted == -1 and place == V2 else str(wanted)) for place, file in where
    )
    return Setting(field, wanted, choices, desirable)
