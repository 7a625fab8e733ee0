"""Writes the bases that are owed: what a roll began with a marker becomes a real base in the background.

One is written at a time, and of those that wait only the newest is: it makes the others needless.  A disk
that does not take it is tried again; until then the logs are kept from which the state follows.
"""

from __future__ import annotations

import logging

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery
from swarmd.store.raft.files import DiskFailed
from swarmd.store.raft.held import Abandoned, Held
from swarmd.store.raft.port import StateView
from swarmd.store.raft.records import Marker

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0


class Scribe:
    """``turn`` is called between the pump's turns; ``problem`` says what keeps a base from being written."""

    def __init__(self, held: Held, nursery: Nursery, clock: Clock) -> None:
        self._held = held
        self._nursery = nursery
        self._clock = clock
        self._owed: tuple[Marker, StateView] | None = None
        self.writing = False
        self._again = 0.0
        self.problem: str | None = None

    def owe(self, marker: Marker, view: StateView) -> None:
        """The epoch of ``marker`` has begun, with the state in ``view``."""
        self._owed = (marker, view)
        self._again = 0.0

    def turn(self) -> None:
        """Begin to write what is owed, unless something is being written."""
        if self._owed is None or self.writing or self._held.wiped:
            return
        if self._clock.monotonic() >= self._again:
            self.writing = True
            self._nursery.start(f"write base {self._owed[0].epoch}", self._write(*self._owed))

    async def _write(self, marker: Marker, view: StateView) -> None:
        held = self._held
        try:
            if marker.epoch > held.base_epoch:
                await held.write_base(marker, view)
            self.problem = None
            if self._owed is not None and self._owed[0] is marker:
                self._owed = None
        except Abandoned:
            _log.debug("the base of epoch %d is not needed any more", marker.epoch)
        except DiskFailed as error:
            self._again = self._clock.monotonic() + _RETRY_SECONDS
            self.problem = (
                f"This manager cannot write a snapshot of its state into {held.store.directory} "
                f"({error.__cause__}). Nothing is lost, but its log grows. Free or repair the disk."
            )
            _log.warning("%s", self.problem)
        finally:
            self.writing = False
