"""The state machine and its ledger: what applying a log entry does on every member alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from swarmd.model.errors import SwarmError
from swarmd.store.raft.envelope import Barrier, Command, Envelope, Ledger, Seal
from swarmd.store.raft.port import StateMachine
from swarmd.store.raft.snapshots import Base

_log = logging.getLogger(__name__)


class Replica:
    """Guards the state machine: each command is counted, applied once, and never ends the member."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._ledger = Ledger()

    @property
    def applied(self) -> int:
        """Commands applied since the swarm began."""
        return self._ledger.applied

    def first_base(self, members: Mapping[str, str]) -> Base:
        """Where a new swarm begins: the state as it is now."""
        return Base(1, dict(members), 0, [], self._machine.snapshot())

    def next_base(self, epoch: int, seal: Seal) -> Base:
        """Where the epoch behind ``seal`` begins."""
        ledger = self._ledger
        return Base(epoch, dict(seal.members), ledger.applied, ledger.sessions(), self._machine.snapshot())

    def restore(self, base: Base) -> None:
        """Begin where ``base`` does."""
        self._machine.restore(base.applied, base.state)
        self._ledger = Ledger(base.applied, base.sessions)

    def apply(self, envelope: Envelope) -> object:
        """The result for the proposer; an error as a value."""
        match envelope.body:
            case Command(data):
                index = self._ledger.admit(envelope.session, envelope.sequence)
                return None if index is None else self._guarded(index, data)
            case Barrier() | Seal():
                # A seal is no change of the state: the pump rolls the epoch.
                return None

    def _guarded(self, index: int, data: bytes) -> object:
        try:
            return self._machine.apply(index, data)
        except SwarmError as error:
            return error
        except Exception as error:  # noqa: BLE001 - one command must not end the member
            # The contract forbids it; the same entry fails alike on every replica, so all stay equal.
            _log.exception("command %d failed while it was applied", index)
            return SwarmError(f"The change failed inside the store: {error!r}.")
