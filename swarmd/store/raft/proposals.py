"""Proposals of this member that wait for their outcome.  Each future is resolved exactly once."""

from __future__ import annotations

import asyncio
from collections import deque

from swarmd.model.errors import SwarmError
from swarmd.store.raft.envelope import Body, Command, Envelope, Seal


class Pending:
    """One proposal: its name for ever, its body, and who waits for it."""

    def __init__(self, envelope: Envelope, future: asyncio.Future[object]) -> None:
        self.envelope = envelope
        self.future = future
        self.size = 32 + (len(envelope.body.data) if isinstance(envelope.body, Command) else 0)

    def settle(self, result: object) -> None:
        """Answer, unless the caller gave up already."""
        if self.future.done():
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class Proposals:
    """A queue of what is not in a log yet, and a table of what is, both in the order of proposing."""

    def __init__(self, session: str) -> None:
        self.session = session
        self._sequence = 0
        self._queue: deque[Pending] = deque()
        self._logged: dict[int, Pending] = {}

    def __bool__(self) -> bool:
        return bool(self._queue or self._logged)

    @property
    def queued(self) -> int:
        """How many wait to be put into the log."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """How many are in the log and not applied yet."""
        return len(self._logged)

    def add(self, body: Body) -> Pending:
        """Queue ``body`` under a fresh sequence."""
        pending = self._make(body)
        self._queue.append(pending)
        return pending

    def log(self, body: Body) -> Pending:
        """``body`` under a fresh sequence, as what goes into the log now."""
        pending = self._make(body)
        self._logged[pending.envelope.sequence] = pending
        return pending

    def _make(self, body: Body) -> Pending:
        self._sequence += 1
        future = asyncio.get_running_loop().create_future()
        # Not everybody stays to hear the outcome, and an unheard error is no defect.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return Pending(Envelope(self.session, self._sequence, body), future)

    def take(self, limit: int) -> list[Pending]:
        """The next proposals for the log, about ``limit`` bytes of them, none behind a seal."""
        taken: list[Pending] = []
        while self._queue and limit > 0:
            pending = self._queue.popleft()
            limit -= pending.size
            if pending.future.cancelled():
                continue
            taken.append(pending)
            self._logged[pending.envelope.sequence] = pending
            if isinstance(pending.envelope.body, Seal):
                break
        return taken

    def applied(self, envelope: Envelope, result: object) -> None:
        """An entry was applied here; if it is ours, its proposer hears ``result``."""
        if envelope.session == self.session:
            pending = self._logged.pop(envelope.sequence, None)
            if pending is not None:
                pending.settle(result)

    def requeue(self, lost_seal: SwarmError) -> None:
        """The epoch is over: what stood behind its seal was not applied and is proposed again, in order.

        A seal of ours that was not the one in effect fails with ``lost_seal``.
        """
        again = [self._logged[sequence] for sequence in sorted(self._logged)]
        self._logged.clear()
        for pending in reversed(again):
            if isinstance(pending.envelope.body, Seal):
                pending.settle(lost_seal)
            else:
                self._queue.appendleft(pending)

    def fail(self, *, queued: SwarmError, logged: SwarmError) -> None:
        """Nothing more can come of them here."""
        for pending in self._queue:
            pending.settle(queued)
        for pending in self._logged.values():
            pending.settle(logged)
        self._queue.clear()
        self._logged.clear()

    def abandon(self, pending: Pending) -> bool:
        """Its caller gave up.  True when it is in a log and may yet be applied."""
        if pending in self._queue:
            self._queue.remove(pending)
            return False
        return self._logged.pop(pending.envelope.sequence, None) is not None
