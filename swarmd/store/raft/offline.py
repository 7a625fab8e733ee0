"""What is done to a manager's state while nobody takes part with it.

    take_over   its only survivor goes on alone, with all that its log holds
    begin_from  a state from elsewhere takes the place of what is there, if anything

Both leave the state as it was, or as it shall be, also after a crash at any point: they can be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from swarmd.model.errors import Refused
from swarmd.security.sealing import PLAIN, Sealer
from swarmd.store.raft.files import Disk, SystemDisk
from swarmd.store.raft.founding import FORCED_EPOCHS, begin_alone
from swarmd.store.raft.held import Held
from swarmd.store.raft.port import StateMachine
from swarmd.store.raft.replica import Replica
from swarmd.store.raft.snapshots import Base, SnapshotStore
from swarmd.store.raft.timing import Timing

NOTHING = "{directory} holds no state of a manager to go on from. Use that of another manager, or a snapshot."


async def take_over(
    directory: Path,
    node_id: str,
    address: str,
    machine: StateMachine,
    mend: Callable[[Base, int], bytes],
    *,
    sealer: Sealer = PLAIN,
    disk: Disk | None = None,
) -> Base:
    """Begin an epoch of ``node_id`` alone, at ``address`` (``ip:port``); answers its base.

    ``machine`` is used up.  ``mend``: see :func:`~swarmd.store.raft.founding.begin_alone`.
    Raises Refused when there is nothing to go on from, Corrupt, DiskFailed.
    """
    disk = disk or SystemDisk()
    held = Held(node_id, lambda: SnapshotStore(directory, disk, sealer), disk, Timing(), sealer)
    replica = Replica(machine)
    try:
        trail = await held.recover()
        if trail is None:
            raise Refused(NOTHING.format(directory=directory))
        replica.retrace(trail)
        return await begin_alone(held, replica, node_id, address, mend)
    finally:
        held.close()


async def begin_from(
    directory: Path,
    node_id: str,
    address: str,
    *,
    epoch: int,
    index: int,
    state: bytes,
    sealer: Sealer = PLAIN,
    disk: Disk | None = None,
) -> Base:
    """Begin an epoch of ``node_id`` alone with ``state``, where the count of changes is ``index``.

    It comes after ``epoch``, and after everything this machine ever held.  Raises Corrupt, DiskFailed.
    """

    def work() -> Base:
        store = SnapshotStore(directory, disk or SystemDisk(), sealer)
        newest = max(epoch, store.floor().epoch, *store.epochs(), *store.logs())
        base = Base(newest + FORCED_EPOCHS, {node_id: address}, index, [], state)
        store.save(base)
        store.discard(logs_before=base.epoch)
        return base

    return await asyncio.to_thread(work)
