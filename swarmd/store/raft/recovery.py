"""What a member finds on its disk when it starts: the newest base, and the rolls that led on from it.

An epoch begins with a marker in its log before its base is written.  A member that stopped between the two
goes the way again: from the newest base through each log to its seal.  Blocking; call in a thread::

    base-7 | log-7 ... seal | log-8: marker ... seal | log-9: marker ...
"""

from __future__ import annotations

import logging

import msgspec

from swarmd.store.raft.journal import commands_of
from swarmd.store.raft.records import HEADER_SIZE, Corrupt, Marker, file_header, recover
from swarmd.store.raft.snapshots import Base, SnapshotStore
from swarmd.store.raft.wal import LogState, replay

_log = logging.getLogger(__name__)


class Step(msgspec.Struct, frozen=True):
    """One roll: the commands of the epoch before up to its seal, and the marker of the next."""

    commands: list[bytes]
    marker: Marker


class Trail(msgspec.Struct, frozen=True):
    """From the newest base to the newest epoch; ``old`` names the members of the epochs before that one."""

    base: Base
    steps: list[Step]
    old: dict[int, dict[str, str]]

    @property
    def epoch(self) -> int:
        return self.steps[-1].marker.epoch if self.steps else self.base.epoch

    @property
    def members(self) -> dict[str, str]:
        return self.steps[-1].marker.members if self.steps else self.base.members


def read_trail(store: SnapshotStore) -> Trail | None:
    """What ``store`` holds; None when it has no base.  Raises Corrupt when a piece is damaged or missing."""
    epochs = store.epochs()
    if not epochs:
        return None
    base = store.load(epochs[-1])
    old = _members_of(store, epochs[:-1])
    steps: list[Step] = []
    epoch, members = base.epoch, base.members
    log = _read_log(store, epoch)
    while (following := _read_log(store, epoch + 1)) is not None and following.marker is not None:
        steps.append(Step(_sealed_commands(store, epoch, log, following.marker), following.marker))
        old[epoch] = members
        epoch, members, log = epoch + 1, following.marker.members, following
    _check_no_gap(store, epoch)
    return Trail(base, steps, old)


def _read_log(store: SnapshotStore, epoch: int) -> LogState | None:
    """The log of ``epoch``; None when there is none, or nothing was ever promised in it."""
    path = store.log_path(epoch)
    data = path.read_bytes() if path.exists() else b""
    if len(data) <= HEADER_SIZE and (file_header(epoch).startswith(data) or not any(data)):
        return None
    return replay(recover(data, epoch, str(path), store.sealer).items, str(path))


def _sealed_commands(store: SnapshotStore, epoch: int, log: LogState | None, marker: Marker) -> list[bytes]:
    entries = [(entry.command, entry.index, entry.term) for entry in log.entries] if log is not None else []
    if len(entries) + 1 < marker.sealed:
        raise Corrupt(
            f"The log {store.log_path(epoch)} ends before entry {marker.sealed}, with which epoch {epoch} "
            "ended. Remove this manager from the swarm and join it again."
        )
    return [command for _, command in commands_of(entries[: marker.sealed - 1])]


def _check_no_gap(store: SnapshotStore, newest: int) -> None:
    """A later epoch that began here and cannot be reached was promised in, and must not be forgotten."""
    for epoch in store.logs():
        log = _read_log(store, epoch) if epoch > newest + 1 else None
        if log is not None and log.marker is not None:
            raise Corrupt(
                f"The log {store.log_path(epoch - 1)} or the snapshot before it is missing. "
                "Remove this manager from the swarm and join it again."
            )


def _members_of(store: SnapshotStore, epochs: list[int]) -> dict[int, dict[str, str]]:
    """Who was in ``epochs``; one whose base is damaged is not needed any more and left out."""
    members: dict[int, dict[str, str]] = {}
    for epoch in epochs:
        try:
            members[epoch] = store.load(epoch).members
        except Corrupt as error:
            _log.warning("an old snapshot is ignored: %s", error)
    return members
