"""A swarm goes on with one manager: begun anew from what this one holds, or from a snapshot.

    begin_anew   the membership here, its managing half at rest  ──► the same node, the only manager
    put_back     the same, with the state of a snapshot
    fill         a machine in no swarm, and a snapshot           ──► the node of the snapshot that had its
                                                                     address, or a new one: the only manager

Nobody takes part with the directory meanwhile.  Each can be repeated after a crash at any point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from swarmd.control.core.backups import BEFORE_RECOVERY
from swarmd.control.core.survivors import Survivor, begun_anew, place_of, put_back, restored
from swarmd.control.snapshots import Contents, pack
from swarmd.daemon.managing import CLUSTER_PORT
from swarmd.daemon.ondisk import OnDisk
from swarmd.daemon.state import NodeMemory
from swarmd.daemon.tools.backups import BackupFolder
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.model.errors import Refused
from swarmd.model.objects import Cluster, Row
from swarmd.model.replace import replace
from swarmd.model.states import Role
from swarmd.node.agent.core.remotes import Remote
from swarmd.security import ca, issuing
from swarmd.security.identity import Credentials
from swarmd.store.core.transaction import decode_rows, encode_rows
from swarmd.store.raft.founding import AHEAD
from swarmd.store.raft.offline import begin_from, take_over
from swarmd.store.raft.reading import look, replay
from swarmd.store.raft.snapshots import Base
from swarmd.store.store import StoreState

NO_MEMBERSHIP = (
    "{data} belongs to no swarm: there is nothing to go on from. To bring a swarm back on this machine, "
    "give a snapshot of it: `swarmd recover --from-snapshot FILE`."
)
OTHER_SWARM = (
    "the snapshot is of swarm {theirs}, and this node is part of swarm {ours}: "
    "run `swarmctl swarm leave --force` first, then restore it"
)


class Change(Protocol):
    """One of ``control.core.survivors``."""

    def __call__(self, rows: Sequence[Row], survivor: Survivor, *, index: int, now: float) -> list[Row]: ...


class Recovery:
    """Works on one data directory."""

    def __init__(self, data: Path, disk: OnDisk, folder: BackupFolder, clock: Clock, new_id: NewId) -> None:
        self._data = data
        self._disk = disk
        self._folder = folder
        self._clock = clock
        self._new_id = new_id

    async def begin_anew(self, resolve: Callable[[str], str]) -> NodeMemory:
        """Make this node the only manager, with all that its log holds; answers its memory.

        ``resolve`` answers the address to use, given the one it had.  A snapshot of what was found is kept
        first.  Raises SwarmError.
        """
        credentials, memory = self._membership()
        survivor = _survivor(memory.node_id, resolve(memory.address))
        clusters: list[Cluster] = []

        def mend(found: Base, index: int) -> bytes:
            _, rows = decode_rows(found.state)
            clusters.append(_cluster(rows, self._data))
            self._keep(rows, found.applied, found.epoch)
            alone = begun_anew(rows, survivor, index=index, now=self._clock.now())
            return b"".join(encode_rows(index, alone))

        await take_over(
            self._data / "raft",
            survivor.node_id,
            survivor.raft_address,
            StoreState(),
            mend,
            sealer=self._disk.vault,
        )
        return self._remember(credentials, memory, survivor, clusters[-1])

    async def put_back(self, contents: Contents, resolve: Callable[[str], str]) -> NodeMemory:
        """Make this node the only manager of the swarm as the snapshot has it; answers its memory.

        Raises Refused for another swarm's snapshot.
        """
        credentials, memory = self._membership()
        if memory.cluster_id != contents.cluster.id:
            raise Refused(OTHER_SWARM.format(theirs=contents.cluster.id, ours=memory.cluster_id))
        survivor = _survivor(memory.node_id, resolve(memory.address))
        await self._keep_what_is_there()
        await self._begin_from(contents, survivor, put_back)
        return self._remember(credentials, memory, survivor, contents.cluster)

    def membership(self, contents: Contents, *, address: str, listen: str) -> tuple[Credentials, NodeMemory]:
        """For a machine in no swarm: what makes it the only manager, once :meth:`fill` is done."""
        place = place_of(contents.rows, address)
        survivor = _survivor(place.id if place is not None else self._new_id(), address)
        memory = NodeMemory(
            node_id=survivor.node_id,
            cluster_id=contents.cluster.id,
            address=address,
            listen=listen,
            managers=(_remote(survivor),),
            restoring=True,
        )
        return self._certified(survivor.node_id, contents.cluster), memory

    async def fill(self, contents: Contents, memory: NodeMemory) -> NodeMemory:
        """Put the snapshot where a saved membership has its state; from then on this node is in."""
        await self._begin_from(contents, _survivor(memory.node_id, memory.address), restored)
        memory = replace(memory, restoring=False)
        self._disk.memory.save(memory)
        return memory

    async def restore(
        self, contents: Contents, *, address: str, listen: str
    ) -> tuple[Credentials, NodeMemory]:
        """Both, on a stopped daemon's disk."""
        credentials, memory = self.membership(contents, address=address, listen=listen)
        self._disk.save(credentials, memory)
        return credentials, await self.fill(contents, memory)

    def _membership(self) -> tuple[Credentials, NodeMemory]:
        found = self._disk.load()
        if found is None:
            raise Refused(NO_MEMBERSHIP.format(data=self._data))
        return found

    async def _keep_what_is_there(self) -> None:
        """As far as it can be read: it may be damaged, which is why a snapshot is put back."""
        picture = await asyncio.to_thread(look, self._data / "raft", self._disk.vault)
        if picture.newest is None or picture.problems:
            return
        found = replay(picture.newest.base, picture.chain, StoreState()).base
        _, rows = decode_rows(found.state)
        self._keep(rows, found.applied, found.epoch)

    async def _begin_from(self, contents: Contents, survivor: Survivor, change: Change) -> None:
        index = contents.header.index + AHEAD
        rows = change(contents.rows, survivor, index=index, now=self._clock.now())
        await begin_from(
            self._data / "raft",
            survivor.node_id,
            survivor.raft_address,
            epoch=contents.header.epoch,
            index=index,
            sealer=self._disk.vault,
            state=b"".join(encode_rows(index, rows)),
        )

    def _keep(self, rows: list[Row], index: int, epoch: int) -> None:
        now = self._clock.now()
        snapshot = pack(rows, index=index, epoch=epoch, now=now)
        unlock_key = _cluster(rows, self._data).unlock_key
        self._folder.write(snapshot, reason=BEFORE_RECOVERY, now=now, index=index, unlock_key=unlock_key)

    def _remember(
        self, credentials: Credentials, memory: NodeMemory, survivor: Survivor, cluster: Cluster
    ) -> NodeMemory:
        """Of a manager that was demoted or slept too long the certificate is of no use any more."""
        _, end = ca.validity(credentials.certificate)
        if credentials.identity.role is not Role.MANAGER or self._clock.now() >= end:
            self._disk.identity.save(self._certified(survivor.node_id, cluster))
        fresh = replace(memory, address=survivor.address, managers=(_remote(survivor),), founding=None)
        self._disk.memory.save(fresh)
        return fresh

    def _certified(self, node_id: str, cluster: Cluster) -> Credentials:
        key = ca.new_key()
        certificate = issuing.signer(cluster).sign(
            ca.new_request(key),
            ca.Identity(node_id, Role.MANAGER, cluster.id),
            now=self._clock.now(),
            life=cluster.spec.certificate_expiry,
        )
        return Credentials(key=key, certificate=certificate, root=issuing.trusted(cluster))


def _survivor(node_id: str, address: str) -> Survivor:
    return Survivor(node_id, address, f"{address}:{CLUSTER_PORT}")


def _remote(survivor: Survivor) -> Remote:
    return Remote(survivor.node_id, survivor.address, survivor.raft_address)


def _cluster(rows: list[Row], data: Path) -> Cluster:
    for row in rows:
        if isinstance(row, Cluster):
            return row
    raise Refused(
        f"{data / 'raft'} holds the beginning of a swarm and nothing else yet. Use the directory of another "
        "manager, or a snapshot."
    )
