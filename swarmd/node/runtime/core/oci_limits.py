"""The limits that ``swarmd-runtime update`` can be told by options, as resources of a config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core.oci_resources import BlockIO, Cpu, Memory, Part, Pids, Resources

P = TypeVar("P", bound=Part)

_LISTS = ("cpuset-cpus", "cpuset-mems")


def resources_of(said: Mapping[str, str]) -> Resources:
    """Option → text as typed; :class:`Invalid` for what is no number."""
    numbers = {name: _number(name, text) for name, text in said.items() if name not in _LISTS}
    return Resources(
        memory=_if_any(
            Memory(
                limit=numbers.get("memory"),
                reservation=numbers.get("memory-reservation"),
                swap=numbers.get("memory-swap"),
                kernel=numbers.get("kernel-memory"),
                kernel_tcp=numbers.get("kernel-memory-tcp"),
            )
        ),
        cpu=_if_any(
            Cpu(
                shares=numbers.get("cpu-share"),
                quota=numbers.get("cpu-quota"),
                period=numbers.get("cpu-period"),
                realtime_runtime=numbers.get("cpu-rt-runtime"),
                realtime_period=numbers.get("cpu-rt-period"),
                cpus=said.get("cpuset-cpus", ""),
                mems=said.get("cpuset-mems", ""),
            )
        ),
        pids=_if_any(Pids(limit=numbers.get("pids-limit", 0))),
        block_io=_if_any(BlockIO(weight=numbers.get("blkio-weight"))),
    )


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Invalid(f"--{name} {text!r} is not a number") from None


def _if_any(part: P) -> P | None:
    return None if part == type(part)() else part
