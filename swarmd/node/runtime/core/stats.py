"""What a container uses, from the texts of the kernel's files about its cgroups and its network."""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.measures import BlockUse, ContainerStats, InterfaceUse

V1_FILES = {
    "memory": ("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.stat"),
    "cpu": ("cpu.stat",),
    "pids": ("pids.current", "pids.max"),
    "blkio": ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"),
    "cpuacct": ("cpuacct.usage", "cpuacct.stat"),
}
V2_FILES = {
    "memory": ("memory.current", "memory.peak", "memory.max", "memory.swap.current", "memory.stat"),
    "pids": ("pids.current", "pids.max"),
    "blkio": ("io.stat",),
}
_UNLIMITED = 1 << 60  # what v1 shows without a limit is the largest multiple of a page
_TICK = 10_000_000  # nanoseconds; the kernel reports in hundredths of a second, whatever its own rate
_NETWORK_COLUMNS = (0, 1, 2, 3, 8, 9, 10, 11)  # bytes, packets, errors, drops; received, sent


def files(groups: ContainerGroups) -> dict[str, str]:
    """Key → path of everything :func:`assemble` wants to see."""
    wanted = {}
    for controller, names in V1_FILES.items():
        if controller in groups.v1:
            wanted.update({f"{controller}/{name}": f"{groups.v1[controller]}/{name}" for name in names})
    if groups.v2:
        wanted["v2/cpu.stat"] = f"{groups.v2}/cpu.stat"
        for controller, names in V2_FILES.items():
            if controller not in groups.v1:
                wanted.update({f"v2/{name}": f"{groups.v2}/{name}" for name in names})
    return wanted


def assemble(texts: Mapping[str, str], network: str) -> ContainerStats:
    """``texts`` by the keys of :func:`files`; ``network``: /proc/PID/net/dev, or nothing."""
    v1 = "memory/memory.stat" in texts
    memory = _counters(texts.get("memory/memory.stat" if v1 else "v2/memory.stat", ""))
    prefix = "total_" if v1 else ""  # v1 has numbers with and without the groups below it
    usage = _number(texts, "memory/memory.usage_in_bytes", "v2/memory.current")
    limit = _number(texts, "memory/memory.limit_in_bytes", "v2/memory.max")
    swap = memory.get("total_swap", 0) if v1 else _number(texts, "v2/memory.swap.current")
    total, user, system = _cpu(texts)
    throttled = _counters(texts.get("cpu/cpu.stat", texts.get("v2/cpu.stat", "")))
    return ContainerStats(
        memory=max(0, usage - memory.get(f"{prefix}inactive_file", 0)),
        cpu=total,
        pids=_number(texts, "pids/pids.current", "v2/pids.current"),
        memory_usage=usage,
        memory_limit=limit if limit < _UNLIMITED else 0,
        memory_cache=memory.get("total_cache" if v1 else "file", 0),
        memory_swap=swap,
        memory_peak=_number(texts, "memory/memory.max_usage_in_bytes", "v2/memory.peak"),
        cpu_user=user,
        cpu_system=system,
        cpu_throttled=throttled.get("throttled_time", 0) + 1000 * throttled.get("throttled_usec", 0),
        throttled_periods=throttled.get("nr_throttled", 0),
        pids_limit=_number(texts, "pids/pids.max", "v2/pids.max"),
        io=_io(texts),
        network=interfaces(network),
    )


def _cpu(texts: Mapping[str, str]) -> tuple[int, int, int]:
    """Nanoseconds: all, user, system."""
    v2 = _counters(texts.get("v2/cpu.stat", ""))
    if v2:
        return 1000 * v2.get("usage_usec", 0), 1000 * v2.get("user_usec", 0), 1000 * v2.get("system_usec", 0)
    split = _counters(texts.get("cpuacct/cpuacct.stat", ""))
    total = _number(texts, "cpuacct/cpuacct.usage")
    return total, _TICK * split.get("user", 0), _TICK * split.get("system", 0)


def _io(texts: Mapping[str, str]) -> tuple[BlockUse, ...]:
    if "v2/io.stat" in texts:
        return _io_v2(texts["v2/io.stat"])
    sizes = _by_device(texts.get("blkio/blkio.throttle.io_service_bytes_recursive", ""))
    counts = _by_device(texts.get("blkio/blkio.throttle.io_serviced_recursive", ""))
    return tuple(
        BlockUse(
            device,
            size.get("Read", 0),
            size.get("Write", 0),
            counts.get(device, {}).get("Read", 0),
            counts.get(device, {}).get("Write", 0),
        )
        for device, size in sizes.items()
        if any(size.values())
    )


def _by_device(text: str) -> dict[str, dict[str, int]]:
    """Lines as in ``8:0 Read 4096``; the last line is the sum."""
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3:
            found.setdefault(parts[0], {})[parts[1]] = int(parts[2])
    return found


def _io_v2(text: str) -> tuple[BlockUse, ...]:
    """Lines as in ``8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0``."""
    out = []
    for line in text.splitlines():
        device, *parts = line.split()
        values = dict(part.split("=", 1) for part in parts if "=" in part)
        numbers = [int(values.get(name, 0)) for name in ("rbytes", "wbytes", "rios", "wios")]
        if any(numbers):
            out.append(BlockUse(device, *numbers))
    return tuple(out)


def interfaces(text: str) -> tuple[InterfaceUse, ...]:
    """The rows of /proc/net/dev, without the loopback."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        columns = rest.split()
        if len(columns) >= 12 and name.strip() != "lo":
            found.append(InterfaceUse(name.strip(), *(int(columns[index]) for index in _NETWORK_COLUMNS)))
    return tuple(found)


def _counters(text: str) -> dict[str, int]:
    """A file of "name value" lines."""
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=False))


def _number(texts: Mapping[str, str], *keys: str) -> int:
    """Of the first file there is; 0 for ``max``."""
    text = next((texts[key] for key in keys if key in texts), "").strip()
    return int(text) if text.isdecimal() else 0
