"""The manager half of a node: replication, the cluster port, and a term while it leads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path

import grpc
import structlog

from swarmd.api.control import UseCases
from swarmd.api.forward import Leader
from swarmd.control.authority import Authorities
from swarmd.control.cluster import Clusters, Founding, first_rows
from swarmd.control.evidence import Outside, nothing_outside
from swarmd.control.logins import Logins
from swarmd.control.logs import Line, LogOptions, Logs
from swarmd.control.networks import Networks
from swarmd.control.nodes import Group, Nodes
from swarmd.control.pinning import Ask, Locator, Pinning, nobody_knows
from swarmd.control.preload import Preloading
from swarmd.control.registry import Registry
from swarmd.control.secrets import Secrets
from swarmd.control.services import Services
from swarmd.control.snapshots import Snapshots
from swarmd.control.tokens import Tokens
from swarmd.control.trust import Trusts
from swarmd.daemon.keeping import Keeping
from swarmd.daemon.lanes import LaneRule, cut_those_who_may_not
from swarmd.daemon.locking import Locking
from swarmd.daemon.registry_config import RegistryConfig
from swarmd.daemon.succession import Succession
from swarmd.daemon.terms import Terms
from swarmd.daemon.tools.backups import BackupFolder, Saving
from swarmd.daemon.trusting import trusts
from swarmd.image.port import Content
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.kit.supervise import Nursery, until
from swarmd.manager.authority import Authority
from swarmd.manager.authority_server import JoinLane
from swarmd.manager.term import Term
from swarmd.model.errors import Unavailable
from swarmd.model.image_ref import ImageRef
from swarmd.model.objects import Cluster, Node
from swarmd.node.distribution.blobs import Blobs
from swarmd.rpc import errors
from swarmd.rpc.channels import Channels
from swarmd.rpc.peer import OnJoin, OnRefused, PeerServer
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.security.identity import Contexts, Credentials
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.port import no_leader
from swarmd.store.raft.snapshots import SnapshotStore
from swarmd.store.raft.sockets import PeerTransport
from swarmd.store.store import Store, StoreState

CLUSTER_PORT = 2377
LEADER_WAIT = 5.0
"""Seconds a command waits for an election to end before it says that there is no leader."""


class Managing:
    """Lives from the moment this node is a manager until it is none."""

    def __init__(
        self,
        *,
        node_id: str,
        cluster_id: str,
        address: str,
        listen: str,
        data_dir: Path,
        run_dir: Path,
        reserve: int | None,
        credentials: Callable[[], Credentials],
        locking: Locking,
        channels: Channels,
        gossip: Callable[[], Mapping[str, str]],
        clock: Clock,
        new_id: NewId,
        backups: BackupFolder,
        content: Content,
        blobs: Blobs,
        registry: RegistryConfig,
        on_left: Callable[[], None],
        recheck: Callable[[], None],
        joins: Callable[[OnJoin], OnJoin] = lambda answer: answer,
        ask: Ask = nobody_knows,
        signatures: Outside = nothing_outside,
        refused: OnRefused = lambda address, who, why: None,
    ) -> None:
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._address = address
        self._listen = listen
        self._locking = locking
        self._channels = channels
        self._gossip = gossip
        self._data_dir = data_dir / "raft"
        self._clock = clock
        self._new_id = new_id
        self._pinning = Pinning(self._locator, ask, own=registry.domains)
        self._on_left = on_left
        self._recheck = recheck
        self._takes_part = False
        self._content = content
        self._signatures = signatures
        self._nursery = Nursery(self._report)
        self._log = structlog.get_logger()
        self._state = StoreState()
        self._lost = asyncio.Event()
        self._changed = asyncio.Event()
        self._known_leader: str | None = None
        contexts = Contexts(credentials, run_dir)
        self._lane_rule = LaneRule(
            lambda: self.store,
            clock,
            is_with=lambda node_id: node_id in self.raft.status().concerned,
            trusted=lambda: credentials().root,
        )
        self.peer_server = PeerServer(
            node_id=node_id,
            cluster_id=lambda: cluster_id,
            context=contexts.server,
            on_join=joins(lambda request, address: self._join_lane.answer(request, address)),
            check=self._lane_rule.check,
            on_refused=refused,
        )
        self._transport = PeerTransport(
            node_id=node_id,
            cluster_id=lambda: cluster_id,
            server=self.peer_server,
            context=contexts.client,
            clock=clock,
            check=self._lane_rule.check,
        )
        self.raft = RaftNode(
            node_id=node_id,
            address=self.raft_address,
            data_dir=self._data_dir,
            state_machine=self._state,
            transport=self._transport,
            reserve=reserve,
            clock=clock,
            sealer=locking.vault,
        )
        self.store = Store(self._state, self.raft, clock)
        self._terms = Terms(self.raft, clock, self._new_term, lambda: self._changed, self._nursery)
        self._succession = Succession(
            node_id, self.store, self.raft, clock, self._terms.hand_on, self.changed
        )
        self.authority = Authority(self.store, clock, new_id)
        self.keeping = Keeping(
            node_id=node_id,
            store=self.store,
            members=lambda: self.raft.status().members,
            having=lambda digest: self.term.dispatcher.holdings.having(digest) if self.term else (),
            content=content,
            blobs=blobs,
            channels=channels,
            clock=clock,
        )
        self._keep_untagged = registry.keep_untagged
        self.registry = Registry(self.store, clock, domains=registry.domains, spread=self.keeping.spread)
        self._join_lane = JoinLane(
            self.authority, self._leader_channel, lambda: self.cases.clusters.get().root_ca, self.managers
        )
        self.cases = self._use_cases()
        self.saving = Saving(
            backups,
            take=self.cases.snapshots.take,
            store=self.store,
            is_leader=self.raft.is_leader,
            clock=clock,
        )

    @property
    def raft_address(self) -> str:
        """Where the other managers reach this one."""
        return f"{self._address}:{CLUSTER_PORT}"

    @property
    def term(self) -> Term | None:
        """The running term, while this manager leads."""
        return self._terms.current

    async def start(self, *, bootstrap: bool = False, peers: Mapping[str, str] | None = None) -> None:
        """Listen and take part.  Raises SwarmError when the port or the disk cannot be used."""
        try:
            await self.peer_server.start(self._listen, CLUSTER_PORT)
        except OSError as error:
            raise Unavailable(
                f"the cluster port {self._listen}:{CLUSTER_PORT} cannot be opened: {error.strerror}"
            ) from error
        self.raft.on_change(self._on_change)
        # A swarm whose founder crashed between its first epoch and its first rows goes on with that epoch.
        begin = bootstrap and not await asyncio.to_thread(has_begun, self._data_dir)
        members = {self._node_id: self.raft_address} if begin else None
        await self.raft.start(bootstrap_members=members, peers=peers)
        self._takes_part = True
        self._nursery.start("terms", self._terms.run())
        self._nursery.start("locking", self._locking.run(self.store))
        self._nursery.start("open lanes", cut_those_who_may_not(self.store, self._cut))
        self._nursery.start("succession", self._succession.run())
        self._nursery.start("backups", self.saving.run())
        self._nursery.start("keeping images", self.keeping.run())

    async def stop(self) -> None:
        """Stop taking part for now; when this manager leads, it hands leadership on first."""
        self._takes_part = False
        if self.raft.is_leader() and len(self.raft.status().members) > 1:
            await self._terms.hand_on(self._succession.heirs())
        await self.raft.stop()
        await self._nursery.close()
        await self.peer_server.close()

    def show_certificate(self) -> None:
        """This node has another certificate, or trusts other roots: no old connection outlives that."""
        self._transport.refresh()
        self.peer_server.recheck(self._lane_rule.check_issuer)

    def _cut(self) -> None:
        self.peer_server.recheck()
        self._recheck()

    @property
    def has_left(self) -> bool:
        """The group has let this member go; only a new managing half can come back."""
        status = self.raft.status()
        return self._takes_part and status.role == "stopped" and status.problem is None

    async def released(self, limit: float) -> bool:
        """Until the others have let this member go: it serves its last epoch for them until then.

        False when that does not happen within ``limit`` seconds.
        """
        deadline = self._clock.monotonic() + limit
        while self.raft.status().role != "stopped":
            if self._clock.monotonic() >= deadline:
                return False
            await self.changed(0.2)
        return True

    async def found(self, founding: Founding) -> Cluster:
        """Store the first rows of a new swarm, once this manager leads."""
        await self._until_leading(30.0)
        if self.store.cluster() is None:
            await self.store.commit(first_rows(founding, self._new_id))
        cluster = self.store.cluster()
        assert cluster is not None
        return cluster

    # -- the leader ------------------------------------------------------------------------------

    async def find_leader(self) -> Leader:
        """Where a user's call goes.  Waits for an election; raises Unavailable when there is none."""
        deadline = self._clock.monotonic() + LEADER_WAIT
        while True:
            found = self._leader()
            if found is not None:
                return found
            left = deadline - self._clock.monotonic()
            if left <= 0:
                problem = self.raft.status().problem
                raise Unavailable(problem) if problem else no_leader()
            await self.changed(min(left, 0.5))

    async def leading_registry(self) -> Registry:
        """The registry, as new as anybody's; raises Unavailable while this manager does not lead."""
        if not self.raft.is_leader():
            raise Unavailable("this manager does not lead the swarm at the moment")
        await self.raft.read_index(timeout=LEADER_WAIT)
        return self.registry

    async def changed(self, limit: float) -> None:
        """Until role, leader or members change, at most ``limit`` seconds."""
        await until(self._clock.sleep(limit), self._changed)

    async def _leader_channel(self) -> grpc.aio.Channel | None:
        channel: grpc.aio.Channel | None = (await self.find_leader()).channel
        return channel

    def _leader(self) -> Leader | None:
        if self.raft.is_leader():
            return Leader(channel=None, lost=self._lost)
        leader = self.raft.status().leader
        node = self.store.get(Node, leader) if leader and leader != self._node_id else None
        if leader is None or node is None:
            return None
        address = node.status.address
        return Leader(
            channel=self._channels.to(address, leader),
            lost=self._lost,
            using=lambda: self._channels.using(address, leader),
        )

    def _new_term(self) -> Term:
        return Term(
            self.store,
            self.raft,
            self._clock,
            self._new_id,
            members=lambda: self.raft.status().members,
            gossip=self._gossip,
            managers=self.managers,
            registered=self.registry.digest_of,
            keep_untagged=self._keep_untagged,
        )

    def _on_change(self) -> None:
        leader = self.raft.status().leader
        # Members come and go under one leader, and between epochs nobody is known for a moment: calls
        # that a leader works on are given up only for another leader.
        if leader is not None and leader != self._known_leader:
            self._known_leader = leader
            self._lost.set()
            self._lost = asyncio.Event()
        self._changed.set()
        self._changed = asyncio.Event()
        if self.has_left:
            self._on_left()

    async def _until_leading(self, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                while not self.raft.is_leader():
                    await self._changed.wait()
        except TimeoutError as error:
            raise Unavailable("this manager did not become the leader of its own swarm in time") from error

    # -- what others are told --------------------------------------------------------------------

    def managers(self) -> list[agent_pb2.ManagerPeer]:
        """The members of the group, as agents are told them."""
        peers: list[agent_pb2.ManagerPeer] = []
        for node_id, raft_address in sorted(self.raft.status().members.items()):
            node = self.store.get(Node, node_id)
            address = node.status.address if node else raft_address.rpartition(":")[0]
            # Of one that moved the row says so first, and its change is what has the others told.
            raft_address = (node.raft_address if node else "") or raft_address
            peers.append(agent_pb2.ManagerPeer(node_id=node_id, address=address, raft_address=raft_address))
        return peers

    def redirect(self) -> agent_pb2.Redirect:
        """For an agent that came to a manager that does not lead."""
        managers = self.managers()
        redirect = agent_pb2.Redirect(managers=managers)
        leader = self.raft.status().leader
        for peer in managers:
            if peer.node_id == leader and leader != self._node_id:
                redirect.leader.CopyFrom(peer)
        return redirect

    # -- use cases -------------------------------------------------------------------------------

    def _use_cases(self) -> UseCases:
        trust = self._trusts()
        return UseCases(
            store=self.store,
            clusters=Clusters(self.store, self._new_id),
            tokens=Tokens(self.store, self._clock, self._new_id),
            authorities=Authorities(self.store, self._clock),
            nodes=Nodes(self.store, self._clock, self._group),
            services=Services(
                self.store,
                self._clock,
                self._new_id,
                self._pinning.digest,
                self.keeping.keep_image,
                trust.admit,
            ),
            logins=Logins(self.store),
            logs=Logs(self.store, self._read_log, self._report),
            snapshots=Snapshots(
                self.store, self.raft.read_index, lambda: self.raft.status().epoch, self._clock
            ),
            registry=self.registry,
            preloading=Preloading(
                self.store,
                preloads=lambda: self.term.dispatcher.holdings.preloads if self.term else None,
                pin=lambda ref: self._locator()(ref),
            ),
            trust=trust,
            networks=Networks(self.store, self._new_id),
            secrets=Secrets(self.store, self._new_id),
        )

    def _group(self) -> Group:
        status = self.raft.status()
        return Group(
            members=status.members.keys(),
            reachable=status.reachable | {self._node_id},
            leader=status.leader,
        )

    def _locator(self) -> Locator:
        term = self._terms.current

        def locate(ref: ImageRef) -> str:
            return term.dispatcher.holdings.digest_of(ref, prefer=self._node_id) if term else ""

        return locate

    def _trusts(self) -> Trusts:
        return trusts(
            self.store,
            self._clock,
            self._locator,
            self._content,
            self.registry.domains,
            self._signatures,
            self._held,
            self._pinning.ask,
        )

    def _held(self, digest: str) -> Iterable[str]:
        term = self._terms.current
        return term.dispatcher.holdings.names_of(digest) if term else ()

    async def _read_log(self, node: Node, task_id: str, options: LogOptions) -> AsyncIterator[Line]:
        request = agent_pb2.TaskLogsRequest(
            task_id=task_id, follow=options.follow, tail=options.tail, since=options.since
        )
        with errors.calling(), self._channels.using(node.status.address, node.id) as channel:
            async for line in agent_pb2_grpc.NodePeerStub(channel).TaskLogs(request):
                yield Line(at=line.at, stderr=line.stderr, data=line.line)

    def _report(self, name: str, error: BaseException) -> None:
        self._log.error("background_failed", what=name, exc_info=error)


def has_begun(raft_dir: Path) -> bool:
    """Whether there is an epoch on disk to go on with."""
    return bool(SnapshotStore(raft_dir, SystemDisk()).epochs())
