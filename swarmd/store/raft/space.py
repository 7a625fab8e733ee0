"""When a manager takes no more changes because its disk is nearly full, and when it does again.  Pure.

A log that cannot be written ends this manager's part in the swarm; so it stops taking changes before.  Seals
and what other leaders have agreed upon are still written: the room kept is for them.
"""

from __future__ import annotations

from pathlib import Path

from swarmd.model.errors import Unavailable

RESERVE_BYTES = 256 << 20
_RESERVE_SHARE = 0.05
_ENOUGH = 1.25


class Space:
    """What is known of the file system that holds ``directory``.

    ``reserve``: free bytes below which no change is taken; None: 256 MiB or 5 % of the file system, whichever
    is less.  Changes are taken again from a quarter more on.
    """

    def __init__(self, directory: Path, reserve: int | None) -> None:
        self._directory = directory
        self._reserve = reserve
        self.problem: str | None = None

    def saw(self, free: int, total: int) -> None:
        """``free`` of ``total`` bytes can be written."""
        reserve = self._reserve
        if reserve is None:
            reserve = min(RESERVE_BYTES, int(total * _RESERVE_SHARE))
        if free >= (reserve * _ENOUGH if self.problem else reserve):
            self.problem = None
        else:
            self.problem = (
                f"This manager takes no changes now: {self._directory} has {_mib(free)} of free space left, "
                f"and {_mib(reserve)} are kept for what is agreed upon already. Free some there; from "
                f"{_mib(int(reserve * _ENOUGH))} on changes are taken again. Tasks run on."
            )

    def admit(self) -> None:
        """Raises Unavailable when no change is taken."""
        if self.problem is not None:
            raise Unavailable(self.problem)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
