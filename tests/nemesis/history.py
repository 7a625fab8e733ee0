"""What clients asked, what they were told, and when: the history that is judged afterwards.

Times are seconds of one monotonic clock, the same for all clients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import msgspec

Kind = Literal["read", "write", "swap", "list", "add", "remove"]
Outcome = Literal["ok", "fail", "unknown"]
OPEN = math.inf
"""When an operation of unknown outcome ends: it may still take effect at any later time."""


class Operation(msgspec.Struct, frozen=True):
    """One call of one client through one manager.

    ``key`` is the register, or the element of the set ("" for a list).  ``value`` is what was written or
    read, ``expected`` what a swap found before it.  A register without a value holds "".  ``listed`` are the
    elements a list showed, each as often as it showed it.
    """

    client: str
    manager: str
    kind: Kind
    key: str
    invoked: float
    returned: float
    outcome: Outcome
    value: str = ""
    expected: str = ""
    listed: tuple[str, ...] = ()
    said: str = ""

    def line(self, origin: float) -> str:
        """For people, with times since ``origin``."""
        end = "   open" if self.returned == OPEN else f"{self.returned - origin:7.3f}"
        what = {
            "read": f"= {self.value!r}",
            "write": f":= {self.value!r}",
            "swap": f"{self.expected!r} -> {self.value!r}",
            "list": f"{len(self.listed)} elements",
        }.get(self.kind, "")
        said = f"  ({self.said})" if self.said else ""
        return (
            f"[{self.invoked - origin:7.3f} .. {end}] {self.client:>4} at {self.manager}: "
            f"{self.kind} {self.key} {what} {self.outcome}{said}"
        )


class History:
    """The operations so far, in the order in which they ended."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.origin = now()
        self.operations: list[Operation] = []

    def add(self, operation: Operation) -> None:
        """One more."""
        self.operations.append(operation)

    def registers(self) -> list[str]:
        """Those that were touched, in the order of their first use."""
        return list(
            dict.fromkeys(o.key for o in self.operations if o.kind in ("read", "write", "swap") and o.key)
        )

    def of(self, key: str) -> list[Operation]:
        """All that was done with one register."""
        return [o for o in self.operations if o.key == key and o.kind in ("read", "write", "swap")]
