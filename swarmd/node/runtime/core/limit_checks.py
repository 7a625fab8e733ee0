"""Which limits of a container can be kept; a refusal names the field, its value and what would do."""

from __future__ import annotations

import msgspec

from swarmd.model.errors import Invalid
from swarmd.node.runtime.port import Limits

MEMORY_MINIMUM = 6 * 1024 * 1024
_MOST_CPUS = 8192
_ANY = 1 << 62
_RANGES = (  # field, least, most; 0 is not set
    ("memory", MEMORY_MINIMUM, _ANY),
    ("memory_reservation", MEMORY_MINIMUM, _ANY),
    ("nano_cpus", 1, _MOST_CPUS * 10**9),
    ("cpu_shares", 2, 262_144),
    ("cpu_period", 1000, 1_000_000),
    ("blkio_weight", 10, 1000),
)
_THROTTLES = ("read_bps", "write_bps", "read_iops", "write_iops")


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What limits depend on and only this machine knows.

    ``files`` are the names of the files in a container's cgroups (each has one meaning in one layout);
    ``cpus`` and ``mems`` the CPUs and memory nodes it may be given, as lists (empty: not known).
    """

    files: frozenset[str] = frozenset()
    cpus: str = ""
    mems: str = ""


def check(limits: Limits, facts: NodeFacts) -> None:
    """Raises :class:`Invalid` for what can be seen without trying."""
    for field, least, most in _RANGES:
        value = getattr(limits, field)
        if value and not least <= value <= most:
            span = f"at least {least}" if most == _ANY else f"from {least} to {most}"
            raise Invalid(f"{field} {value}: it must be {span}" + _hint(field))
    _check_memory(limits)
    _check_cpu(limits)
    if limits.pids < -1:
        raise Invalid(f"pids {limits.pids}: give the most processes there may be, or -1 for any number")
    check_set("cpuset_cpus", limits.cpuset_cpus, facts.cpus)
    check_set("cpuset_mems", limits.cpuset_mems, facts.mems)
    for field in _THROTTLES:
        for throttle in getattr(limits, field):
            if throttle.rate <= 0:
                raise Invalid(f"{field} {throttle.device}:{throttle.rate}: the rate must be more than 0")


def _hint(field: str) -> str:
    return " (6 MiB are the least a container starts with)" if field.startswith("memory") else ""


def _check_memory(limits: Limits) -> None:
    memory, swap = limits.memory, limits.memory_swap
    if limits.memory_reservation and memory and limits.memory_reservation > memory:
        raise Invalid(
            f"memory_reservation {limits.memory_reservation} is more than the memory limit {memory}"
        )
    if swap < -1:
        raise Invalid(f"memory_swap {swap}: give memory and swap together in bytes, or -1 for any amount")
    if swap > 0 and not memory:
        raise Invalid(f"memory_swap {swap} needs a memory limit too: it is memory and swap together")
    if 0 < swap < memory:
        raise Invalid(f"memory_swap {swap} is less than memory {memory}: it is memory and swap together")
    if limits.swappiness is not None and not 0 <= limits.swappiness <= 100:
        raise Invalid(f"swappiness {limits.swappiness}: it must be from 0 to 100")
    if limits.oom_kill_disable and not memory:
        raise Invalid("oom_kill_disable needs a memory limit: without one the whole node would stand still")


def _check_cpu(limits: Limits) -> None:
    if limits.nano_cpus and (limits.cpu_quota or limits.cpu_period):
        raise Invalid(
            f"nano_cpus {limits.nano_cpus} and cpu_quota {limits.cpu_quota} (cpu_period {limits.cpu_period}) "
            "say the same thing in two ways; give one of them"
        )
    if limits.cpu_quota and limits.cpu_quota != -1 and limits.cpu_quota < 1000:
        raise Invalid(f"cpu_quota {limits.cpu_quota}: it must be at least 1000 microseconds, or -1 for none")


def check_set(field: str, wanted: str, available: str) -> None:
    """Raises :class:`Invalid` if ``wanted`` is no list as in ``0-3,7`` or has what ``available`` has not."""
    if not wanted:
        return
    chosen = parse_set(field, wanted)
    missing = chosen - parse_set(field, available) if available else frozenset()
    if not chosen or missing:
        named = ",".join(str(number) for number in sorted(missing)) or "nothing"
        raise Invalid(f"{field} {wanted!r}: {named} is not to be had on this node, which has {available}")


def parse_set(field: str, text: str) -> frozenset[int]:
    """The numbers of a list as in ``0-3,7``; :class:`Invalid` naming ``field``."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < _MOST_CPUS):
            raise Invalid(f"{field} {text!r}: write numbers and ranges, like 0-3,7")
        numbers.update(range(int(first), int(last) + 1))
    return frozenset(numbers)
