"""The leader's end of all node sessions, for one term.

session opens   ──► node row ready ──► whole assignment set, then differences, the mesh, acknowledgements
statuses        ──► reporting ──► task rows, then acknowledged
sessions, signs of life ──► judging ──► node rows
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from swarmd.kit.clock import Clock
from swarmd.kit.groups import TaskGroup
from swarmd.manager.dispatcher import logins, trust
from swarmd.manager.dispatcher.board import MeshBoard
from swarmd.manager.dispatcher.certificates import Certificates
from swarmd.manager.dispatcher.core import assignments, liveness
from swarmd.manager.dispatcher.holdings import Holdings, Registered
from swarmd.manager.dispatcher.judging import Judging
from swarmd.manager.dispatcher.networks import NetworkBoard
from swarmd.manager.dispatcher.registering import registered
from swarmd.manager.dispatcher.reporting import Reporting
from swarmd.manager.dispatcher.session import Session
from swarmd.model.errors import Denied, OutOfSequence, Unavailable
from swarmd.model.objects import (
    Cluster,
    Node,
    NodeStatus,
    RemovedNode,
    Row,
    Service,
    Task,
)
from swarmd.model.registry import RegistryCredential
from swarmd.model.replace import replace
from swarmd.rpc import codec
from swarmd.rpc.v1 import agent_pb2
from swarmd.security import issuing
from swarmd.store.core.tables import Event
from swarmd.store.core.transaction import Put
from swarmd.store.store import Store
from swarmd.store.watch import Overrun, Watch
from swarmd.telemetry.tally import Timings


class Dispatcher:
    """All sessions of one leader's term."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        gossip: Callable[[], Mapping[str, str]],
        managers: Callable[[], list[agent_pb2.ManagerPeer]],
        wanted_issuer: Callable[[str], str] = lambda node_id: "",
        registered: Registered = lambda ref: "",
    ) -> None:
        """``wanted_issuer(node id)``: the key its certificate is to be signed by, "" when any will do."""
        self._store = store
        self._managers = managers
        self._wanted_issuer = wanted_issuer
        self.holdings = Holdings(store, clock, self._tell_preload, registered)
        self._sessions: dict[str, Session] = {}
        self._judging = Judging(store, clock, gossip)
        self._reporting = Reporting(store, clock)
        self._certificates = Certificates(store)
        self._over = False
        # Sessions may open before the loops run.
        self._mesh = MeshBoard(store)
        self._networks = NetworkBoard(store)

    async def run(self) -> None:
        """Until cancelled at the end of the term."""
        watch = self._store.watch()
        self._look_again()
        try:
            async with TaskGroup() as group:
                group.create_task(self._follow_store(watch), name="dispatcher: store")
                group.create_task(self._reporting.run(), name="dispatcher: statuses")
                group.create_task(self._judging.run(), name="dispatcher: liveness")
                group.create_task(self._certificates.run(), name="dispatcher: certificates")
        finally:
            self.end()

    def end(self) -> None:
        """The term is over: no session outlives it, and none begins any more."""
        self._over = True
        for session in self._sessions.values():
            session.end()

    # -- sessions --------------------------------------------------------------------------------

    async def open(self, node_id: str, hello: agent_pb2.AgentHello) -> Session:
        """A node connected; an older session of its own ends.

        Raises Denied when it is not, or no longer, a node of this swarm, Unavailable when the term is over.
        """
        self._end_session_of(node_id)
        await self._register(node_id, hello)
        # While that was written the term may have ended, and the node may have come by another way, too.
        if self._over:
            raise Unavailable("this manager does not lead the swarm any more")
        self._known(node_id)
        self._end_session_of(node_id)
        session = Session(
            node_id,
            tasks=lambda: self._store.tasks_of_node(node_id),
            spec=self._store.spec_version,
            labels=self._labels,
            info=lambda: self._info(node_id),
            mesh=self._mesh,
            networks=lambda: self._networks.of_node(node_id),
            takes_parts=hello.parts,
        )
        self._sessions[node_id] = session
        self._judging.opened(node_id)
        return session

    def _labels(self, service_id: str) -> dict[str, str]:
        service = self._store.get(Service, service_id)
        return {} if service is None else service.spec.labels

    def _end_session_of(self, node_id: str) -> None:
        previous = self._sessions.get(node_id)
        if previous is not None:
            previous.end()

    def close(self, session: Session) -> None:
        """Its stream ended.  A session that was replaced meanwhile changes nothing."""
        session.end()
        if self._sessions.get(session.node_id) is not session:
            return
        del self._sessions[session.node_id]
        self.holdings.forget(session.node_id)
        self._judging.closed(session.node_id)

    def receive(self, session: Session, message: agent_pb2.AgentMessage) -> None:
        """Anything a node says is a sign of life.  Raises Invalid for a status that is none."""
        if self._sessions.get(session.node_id) is not session:
            return
        self._judging.seen(session.node_id)
        kind = message.WhichOneof("body")
        if kind == "statuses":
            self._reporting.take(session, message.statuses)
        elif kind == "certificate":
            self._certificates.take(session.node_id, message.certificate)
        else:
            self.holdings.take(session.node_id, message)

    def node_left(self, node_id: str) -> None:
        """The node said it leaves the swarm: no need to wait for its silence."""
        self._judging.left(node_id)

    def _tell_preload(self, node_id: str, order: agent_pb2.Preload) -> bool:
        session = self._sessions.get(node_id)
        if session is not None:
            session.preload(order)
        return session is not None

    def login_for(self, node_id: str, host: str) -> RegistryCredential | None:
        """See :func:`swarmd.manager.dispatcher.logins.for_node`."""
        return logins.for_node(self._store, node_id, host)

    def wake(self, nodes: Iterable[str]) -> None:
        """What these nodes have to know may have changed."""
        for node_id in nodes:
            if node_id in self._sessions:
                self._sessions[node_id].wake()

    @property
    def starts(self) -> Timings:
        """Seconds from a task's making to its running, of this term."""
        return self._reporting.starts

    def connected(self) -> Collection[str]:
        """Nodes with a live session."""
        return self._sessions.keys()

    async def _register(self, node_id: str, hello: agent_pb2.AgentHello) -> None:
        while True:
            node = self._known(node_id)
            fresh = registered(node, hello)
            if fresh == node:
                return
            try:
                await self._store.commit([Put(fresh)])
            except OutOfSequence:
                continue
            return

    def _known(self, node_id: str) -> Node:
        node = self._store.get(Node, node_id)
        if node is None or self._store.get(RemovedNode, node_id) is not None:
            raise Denied(
                f"node {node_id} is not part of this swarm any more: "
                "run `swarmctl swarm leave --force` on it and join again"
            )
        return node

    def _info(self, node_id: str) -> agent_pb2.SessionInfo | None:
        """What the node has to know of the swarm; None when it is no part of it any more."""
        node = self._store.get(Node, node_id)
        if node is None:
            return None
        cluster = self._store.cluster() or Cluster(id="")
        nodes = sorted(self._store.all(Node), key=lambda node: node.number)
        info = agent_pb2.SessionInfo(
            cluster_id=cluster.id,
            heartbeat=liveness.heartbeat_period(len(nodes), cluster.spec.heartbeat),
            managers=self._managers(),
            gossip_key=cluster.gossip_key,
            gossip_also=[cluster.gossip_change.key] if cluster.gossip_change else [],
            root_ca=issuing.trusted(cluster),
            wanted_issuer=self._wanted_issuer(node_id),
            trust_rules=trust.rules(self._store),
            trust_keys=trust.keys(self._store),
        )
        for seed in (node for node in nodes if node.id != node_id and node.status.address):
            info.seeds.add(node_id=seed.id, address=seed.status.address)
            if len(info.seeds) == 8:
                break
        # The status is the leader's own verdict: sending it would answer every heartbeat loss.
        codec.fill(info.node, replace(node, version=0, updated_at=0.0, status=NodeStatus()))
        return info

    # -- store events ----------------------------------------------------------------------------

    async def _follow_store(self, watch: Watch) -> None:
        while True:
            try:
                events = await watch.next()
            except Overrun:
                self._look_again()
                continue
            self._react(events)

    def _react(self, events: tuple[Event, ...]) -> None:
        if any(event.kind in (Node, Cluster, *trust.KINDS) for event in events):
            self._wake_all()
        else:
            self.wake(assignments.touched(_task_pairs(events)))
        if self._mesh.react(events):
            self._wake_all()
        self.wake(self._networks.react(events))
        if any(event.kind is Node for event in events):
            self._judging.look()
            self._dismiss_removed()

    def _look_again(self) -> None:
        """At everything: events may have passed unseen."""
        self._mesh.look_again()
        self._networks.look_again()
        self._wake_all()
        self._dismiss_removed()

    def _dismiss_removed(self) -> None:
        gone = [node_id for node_id in self._sessions if self._store.get(Node, node_id) is None]
        for node_id in gone:
            self._sessions.pop(node_id).dismiss()
            self._judging.removed(node_id)
            self.holdings.forget(node_id)

    def _wake_all(self) -> None:
        for session in self._sessions.values():
            session.wake()


def _task_pairs(events: tuple[Event, ...]) -> list[tuple[Task | None, Task | None]]:
    return [(_as_task(event.old), _as_task(event.new)) for event in events if event.kind is Task]


def _as_task(row: Row | None) -> Task | None:
    return row if isinstance(row, Task) else None
