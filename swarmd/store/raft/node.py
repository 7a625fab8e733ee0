"""RaftNode: the replication of one manager, from start to stop.  ``port`` says what callers may ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path

from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId, new_id
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Refused, SwarmError, Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.security.sealing import PLAIN, Sealer
from swarmd.store.raft.changes import Changes
from swarmd.store.raft.envelope import Body, Command
from swarmd.store.raft.files import Disk, SystemDisk
from swarmd.store.raft.founding import found
from swarmd.store.raft.held import Held
from swarmd.store.raft.keeper import Keeper
from swarmd.store.raft.measures import Measures, TimedDisk
from swarmd.store.raft.member import Member
from swarmd.store.raft.peers import Peers
from swarmd.store.raft.port import (
    RaftStatus,
    Role,
    StateMachine,
    check_size,
    no_leader,
    not_leader,
    outcome_unknown,
)
from swarmd.store.raft.proposals import Pending, Proposals
from swarmd.store.raft.replica import Replica
from swarmd.store.raft.scribe import Scribe
from swarmd.store.raft.snapshots import SnapshotStore
from swarmd.store.raft.space import Space
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.transport import Transport

_log = logging.getLogger(__name__)

ROLL_ENTRIES = 10_000
ROLL_BYTES = 64 << 20
_MOST_QUEUED = 20_000
_TOO_MANY = "Too many changes are waiting for the managers to agree. Try again in a moment."


class RaftNode:
    """One manager's member of the group; a :class:`~swarmd.store.raft.port.Proposer`.

    ``address`` is its own ``ip:port`` as others reach it.  ``data_dir`` belongs to it alone.  An epoch is
    rolled, which is compaction, after ``roll_entries`` entries or ``roll_bytes`` of log.
    """

    def __init__(
        self,
        *,
        node_id: str,
        address: str,
        data_dir: Path,
        state_machine: StateMachine,
        transport: Transport,
        clock: Clock,
        timing: Timing | None = None,
        roll_entries: int = ROLL_ENTRIES,
        roll_bytes: int = ROLL_BYTES,
        ids: NewId = new_id,
        disk: Disk | None = None,
        sealer: Sealer = PLAIN,
        reserve: int | None = None,
    ) -> None:
        self.measures = Measures()
        disk = TimedDisk(disk or SystemDisk(), self.measures.syncing, clock.monotonic)
        timing = timing or Timing()
        self._node_id = node_id
        self._clock = clock
        self._timing = timing
        self._transport = transport
        self._held = Held(node_id, lambda: SnapshotStore(data_dir, disk, sealer), disk, timing, sealer)
        self._replica = Replica(state_machine)
        self._proposals = Proposals(ids())
        self._nursery = Nursery(lambda name, error: _log.error("%s failed", name, exc_info=error))
        self._scribe = Scribe(self._held, self._nursery, clock)
        self._member = Member(
            held=self._held,
            replica=self._replica,
            scribe=self._scribe,
            peers=Peers(node_id, address, timing),
            proposals=self._proposals,
            transport=transport,
            clock=clock,
            timing=timing,
            roll_due=lambda entries, size: entries >= roll_entries or size >= roll_bytes,
        )
        self._space = Space(data_dir, reserve)
        self._keeper = Keeper(self._member, node_id, self._nursery, self._space)
        self._callbacks: list[Callable[[], None]] = []
        self._announced: object = None
        self._running = False
        self._problem: str | None = None
        self._turned = asyncio.Condition()
        self._changes = Changes(
            self._member,
            self._keeper,
            is_leader=self.is_leader,
            next_turn=self._next_turn,
            propose=lambda seal, timeout: self._wait(self._add(seal), timeout),
        )

    async def start(
        self,
        *,
        bootstrap_members: Mapping[str, str] | None = None,
        peers: Mapping[str, str] | None = None,
    ) -> None:
        """Take part again from disk, begin a new swarm, or follow ``peers`` until an epoch names this node.

        ``bootstrap_members`` (node id to ``ip:port``) begins a swarm on an empty disk; each of them starts
        with the same ones and the same state.  ``peers`` is also good on a restart, to find those who moved.
        Raises Refused, Invalid, DiskFailed, Corrupt.
        """
        try:
            await self._begin(bootstrap_members, peers)
        except SwarmError:
            self._held.close()
            raise
        self._member.peers.learn(self._held.members)
        self._member.seeds = dict(peers or {})
        self._member.peers.learn(self._member.seeds)
        self._running = True
        await self._transport.start(self)
        self._member.tell_status()
        self._nursery.start("raft pump", self._pump())
        self._nursery.start("raft watch", self._watch())

    async def _begin(self, founders: Mapping[str, str] | None, peers: Mapping[str, str] | None) -> None:
        """Begin with what is on disk, if anything is; otherwise the base has to be fetched first."""
        trail = await self._held.recover()
        if founders is not None:
            await found(self._held, self._replica, self._node_id, founders)
        elif trail is not None:
            self._replica.retrace(trail)
            if trail.steps:
                self._scribe.owe(trail.steps[-1].marker, self._replica.view())
        elif not peers:
            raise Refused("This node has no swarm state on its disk. Initialize a swarm, or join one.")

    async def stop(self) -> None:
        """Stop taking part; what is acknowledged is on disk.  Waiting proposals fail."""
        self._running = False
        await self._nursery.close()
        await self._transport.stop()
        self._end_proposals("This manager is shutting down.")
        self._held.close()
        self._announce()

    async def _pump(self) -> None:
        try:
            while not self._keeper.left:
                await self._member.turn()
                await self._keeper.turn()
                self._announce()
                async with self._turned:
                    self._turned.notify_all()
                await self._member.pause()
        except SwarmError as error:
            self._problem = str(error)
            _log.error("replication stopped: %s", error)
        except Exception as error:
            self._problem = f"The replication of this manager failed: {error!r}. Restart the daemon."
            raise
        finally:
            end = "left the group of managers" if self._keeper.left else "is shutting down"
            self._end_proposals(self._problem or f"This manager {end}.")
            self._announce()
        await self._tell_stragglers()

    async def _tell_stragglers(self) -> None:
        """After leaving or failing, speak for nothing but whom to ask."""
        while self._running and self._keeper.left:
            self._member.tell_status()
            await self._clock.sleep(self._timing.status)

    async def _watch(self) -> None:
        """Announce also what comes by mere time, while the disk holds the pump up."""
        while True:
            await self._clock.sleep(self._timing.status)
            self._announce()

    def _end_proposals(self, why: str) -> None:
        self._proposals.fail(queued=Unavailable(why), logged=outcome_unknown(why))
        self._member.reads.end(Unavailable(why))

    def on_frame(self, peer: str, frame: pb.PeerFrame) -> None:
        self._member.frame(peer, frame)

    def on_link(self, peer: str, up: bool) -> None:
        self._member.link(peer, up)

    def serve_base(self, peer: str, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]:
        return self._keeper.serve(request)

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def is_leader(self) -> bool:
        return self._role() == "leader"

    def _role(self) -> Role:
        if not self._running or self._problem is not None or self._keeper.left:
            return "stopped"
        current = self._held.current
        if current is None:
            return "learner"
        if self._member.is_leader():
            return "leader"
        return "candidate" if current.engine.electing else "follower"

    def status(self) -> RaftStatus:
        role, current, views = self._role(), self._held.current, self._keeper.views()
        leader = None if role == "stopped" else self._member.leader()
        return RaftStatus(
            role=role,
            term=current.engine.term if current is not None else 0,
            epoch=self._held.newest,
            leader=leader,
            members=self._member.peers.located(self._held.members),
            concerned=frozenset().union(*self._held.groups()),
            reachable=frozenset(views),
            short=frozenset(node_id for node_id, view in views.items() if view.short),
            apart=self._keeper.apart,
            applied=self._replica.applied,
            has_quorum=leader is not None,
            problem=self._problem,
            warnings=self._keeper.warnings(),
            age=0.0 if role == "leader" else self._member.reads.age(),
        )

    def log_bytes(self) -> int:
        """Size of the open epoch's log; 0 when this member has none."""
        return self._held.current.wal.size if self._held.current is not None else 0

    def _announce(self) -> None:
        """Tell who wants to know that role, leader or members are others than before."""
        status = self.status()
        self.measures.saw(status.leader)
        now = (status.role, status.leader, status.epoch, status.members, status.problem)
        if now != self._announced:
            self._announced = now
            for callback in self._callbacks:
                callback()

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> object:
        check_size(command)
        self._space.admit()
        began = self._clock.monotonic()
        result = await self._wait(self._add(Command(command)), timeout)
        self.measures.proposing.add(self._clock.monotonic() - began)
        return result

    async def read_index(self, *, timeout: float = 10.0) -> int:
        return await self._member.reads.index(timeout)

    def _add(self, body: Body) -> Pending:
        if not self.is_leader():
            raise Unavailable(self._problem) if self._problem else not_leader(self._member.leader())
        if self._proposals.queued >= _MOST_QUEUED:
            raise Unavailable(_TOO_MANY)
        pending = self._proposals.add(body)
        self._member.wake()
        return pending

    async def _wait(self, pending: Pending, timeout: float) -> object:
        """The outcome of ``pending``.  One that its only caller gave up on is not put into a log any more."""
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(pending.future)
        except TimeoutError:
            if pending.future.done():
                # Decided in the very moment in which the patience ended, as after a pause of the process.
                return pending.future.result()
            if self._proposals.abandon(pending):
                raise outcome_unknown(f"The managers did not agree within {timeout:g} seconds.") from None
            raise no_leader() from None
        except asyncio.CancelledError:
            self._proposals.abandon(pending)
            raise

    async def change_members(self, members: Mapping[str, str], *, timeout: float = 20.0) -> None:
        await self._changes.change_members(members, timeout)

    async def transfer(self, among: Collection[str] = ()) -> None:
        await self._changes.transfer(among)

    async def _next_turn(self) -> None:
        async with self._turned:
            await self._turned.wait()
