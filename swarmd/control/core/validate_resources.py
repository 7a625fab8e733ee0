"""Decide whether the amounts a service asks for, and its limits, make sense."""

from __future__ import annotations

import re
from collections.abc import Sequence

from swarmd.model.errors import Invalid
from swarmd.model.spec import Resources, ThrottleSpec

_MIN_MEMORY = 4 * 1024 * 1024
_MIN_LIMIT = 6 * 1024 * 1024  # what a container needs to start at all, here as in Docker
_MOST_CPUS = 8192
_MIN_NANO_CPUS = 1_000_000
_MOST = 2**63 - 1
_CPU_LIST = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")
_ONLY_LIMITS = (
    "pids", "memory_swap", "memory_swappiness", "memory_reservation", "cpu_shares", "cpu_quota", "cpu_period",
    "cpuset_cpus", "cpuset_mems", "blkio_weight", "read_bps", "write_bps", "read_iops", "write_iops",
    "oom_kill_disable",
)  # fmt: skip


def reservations(amount: Resources) -> None:
    """What the scheduler counts.  Raises Invalid."""
    _amount("reservation", amount)
    for name in _ONLY_LIMITS:
        if getattr(amount, name) not in (0, "", (), None, False):
            raise Invalid(f"{name} cannot be reserved: say it as a limit")


def limits(amount: Resources) -> None:
    """What each container may use at most.  Raises Invalid."""
    _amount("limit", amount)
    _memory(amount)
    _cpus(amount)
    if amount.blkio_weight and not 10 <= amount.blkio_weight <= 1000:
        raise Invalid(f"blkio-weight must be between 10 and 1000, not {amount.blkio_weight}")
    for name in ("read_bps", "write_bps", "read_iops", "write_iops"):
        _throttles(f"device-{name.replace('_', '-')}", getattr(amount, name))


def _amount(what: str, amount: Resources) -> None:
    for name in ("nano_cpus", "memory", "pids"):
        if not -1 <= getattr(amount, name) <= _MOST:
            raise Invalid(f"invalid {name} {what}: {getattr(amount, name)} is no amount")
    if amount.nano_cpus and amount.nano_cpus < _MIN_NANO_CPUS:
        raise Invalid(f"invalid cpu {what}: Must be at least 0.001, not {amount.nano_cpus / 1e9:g}")
    if amount.nano_cpus > _MOST_CPUS * 10**9:
        raise Invalid(f"invalid cpu {what}: {amount.nano_cpus / 1e9:g} are more than {_MOST_CPUS}")
    if amount.memory and amount.memory < _MIN_MEMORY:
        raise Invalid(f"invalid memory {what}: Must be at least 4MiB, not {amount.memory} bytes")
    if amount.pids < 0:
        raise Invalid(f"invalid pids {what}: it must be 0 (no limit) or more, not {amount.pids}")


def _memory(amount: Resources) -> None:
    swap, memory = amount.memory_swap, amount.memory
    if swap < -1:
        raise Invalid(f"memory-swap must be -1 (any amount of swap), 0 or more, not {swap}")
    if swap > 0 and not memory:
        raise Invalid("memory-swap counts memory and swap together: give limit-memory as well")
    if 0 < swap < memory:
        raise Invalid(
            f"memory-swap counts memory and swap together: {swap} is less than the {memory} of limit-memory"
        )
    if amount.memory_swappiness is not None and not 0 <= amount.memory_swappiness <= 100:
        raise Invalid(f"memory-swappiness must be between 0 and 100, not {amount.memory_swappiness}")
    if 0 < memory < _MIN_LIMIT:
        raise Invalid(f"invalid memory limit: Must be at least 6MiB, not {memory} bytes")
    if amount.memory_reservation < 0 or 0 < amount.memory_reservation < _MIN_LIMIT:
        raise Invalid(f"memory-reservation must be at least 6MiB, not {amount.memory_reservation} bytes")
    if 0 < memory < amount.memory_reservation:
        raise Invalid(
            f"memory-reservation {amount.memory_reservation} is larger than limit-memory {memory}: "
            "a soft limit is below the hard one"
        )
    if amount.oom_kill_disable and not memory:
        raise Invalid("oom-kill-disable without limit-memory could stop the whole node: limit the memory too")


def _cpus(amount: Resources) -> None:
    if amount.nano_cpus and (amount.cpu_quota or amount.cpu_period):
        raise Invalid("limit-cpu and cpu-quota or cpu-period say the same in two ways: use one of them")
    if amount.cpu_period and not 1_000 <= amount.cpu_period <= 1_000_000:
        raise Invalid(f"cpu-period must be between 1000 and 1000000 microseconds, not {amount.cpu_period}")
    if amount.cpu_quota and amount.cpu_quota < 1_000:
        raise Invalid(f"cpu-quota must be at least 1000 microseconds, not {amount.cpu_quota}")
    if amount.cpu_shares and not 2 <= amount.cpu_shares <= 262_144:
        raise Invalid(f"cpu-shares must be between 2 and 262144, not {amount.cpu_shares}")
    for flag, text in (("cpuset-cpus", amount.cpuset_cpus), ("cpuset-mems", amount.cpuset_mems)):
        _cpu_list(flag, text)


def _cpu_list(flag: str, text: str) -> None:
    if not text:
        return
    if not _CPU_LIST.fullmatch(text):
        raise Invalid(f'{flag} "{text}" is not understood: write numbers and ranges, as 0-3,7')
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if dash and int(first) > int(last):
            raise Invalid(f'{flag} "{text}": the range {part} runs backwards')
        if int(last or first) >= _MOST_CPUS:
            raise Invalid(f'{flag} "{text}": numbers end at {_MOST_CPUS - 1}')


def _throttles(flag: str, throttles: Sequence[ThrottleSpec]) -> None:
    seen: set[str] = set()
    for one in throttles:
        if not one.device.startswith("/dev/") or ".." in one.device.split("/"):
            raise Invalid(f'{flag}: "{one.device}" is no path of a device, as /dev/vda')
        if one.rate <= 0:
            raise Invalid(f"{flag}: the rate of {one.device} must be more than 0, not {one.rate}")
        if one.device in seen:
            raise Invalid(f"{flag}: {one.device} is given twice: leave one of them out")
        seen.add(one.device)
