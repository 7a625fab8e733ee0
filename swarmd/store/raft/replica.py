"""The state machine and its ledger: what applying a log entry does on every member alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from swarmd.model.errors import NotUnderstood, SwarmError
from swarmd.store.raft.envelope import Barrier, Command, Envelope, Ledger, Seal, decode_envelope
from swarmd.store.raft.port import StateMachine, StateView
from swarmd.store.raft.records import Corrupt, Marker
from swarmd.store.raft.recovery import Step, Trail
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

    def view(self) -> StateView:
        """The state as it is now, for a base to be written later."""
        return self._machine.view()

    def base(self, epoch: int, members: Mapping[str, str]) -> Base:
        """Where ``epoch`` begins, if it does now."""
        ledger = self._ledger
        return Base(epoch, dict(members), ledger.applied, ledger.sessions(), b"".join(self._machine.view()()))

    def marker(self, epoch: int, seal: Seal, sealed: int) -> Marker:
        """Where the epoch behind ``seal``, entry ``sealed`` of the one before, begins."""
        ledger = self._ledger
        return Marker(epoch, dict(seal.members), ledger.applied, ledger.sessions(), sealed)

    def restore(self, base: Base) -> None:
        """Begin where ``base`` does."""
        self._machine.restore(base.applied, base.state)
        self._ledger = Ledger(base.applied, base.sessions)

    def retrace(self, trail: Trail) -> None:
        """Begin where the newest epoch of ``trail`` does.  Raises Corrupt."""
        self.restore(trail.base)
        for step in trail.steps:
            self._roll_again(step)

    def _roll_again(self, step: Step) -> None:
        """Go through a roll again.  Raises Corrupt when it does not lead to where it led before."""
        epoch, seal = step.marker.epoch, None
        for command in step.commands:
            envelope = decode_envelope(command)
            if seal is not None:
                break
            if isinstance(envelope.body, Seal):
                seal = envelope.body
            else:
                self.apply(envelope)
        if seal is None or self.marker(epoch, seal, step.marker.sealed) != step.marker:
            raise Corrupt(
                f"The log of epoch {epoch - 1} does not lead to where epoch {epoch} began on this manager. "
                "Remove it from the swarm and join it again."
            )

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
        except NotUnderstood:
            raise  # a newer manager will apply it: this one must not go on without
        except SwarmError as error:
            return error
        except Exception as error:  # noqa: BLE001 - one command must not end the member
            # The contract forbids it; the same entry fails alike on every replica, so all stay equal.
            _log.exception("command %d failed while it was applied", index)
            return SwarmError(f"The change failed inside the store: {error!r}.")
