"""The leader's end of all node sessions, for one term.

session opens   ──► node row ready ──► whole assignment set, then differences, the mesh, acknowledgements
statuses        ──► gathered while the last commit is in flight ──► one transaction ──► acknowledged
sessions, gossip, time ──► core.liveness ──► node rows
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from swarmd.kit.clock import Clock
from swarmd.manager.dispatcher.core import assignments, liveness
from swarmd.manager.dispatcher.core.liveness import Evidence
from swarmd.manager.dispatcher.core.mesh import Mesh, build
from swarmd.manager.dispatcher.images import ImageIndex
from swarmd.manager.dispatcher.session import Session
from swarmd.model.errors import Denied, OutOfSequence
from swarmd.model.objects import (
    Cluster,
    Node,
    NodeDescription,
    NodeStatus,
    RemovedNode,
    Row,
    Service,
    Task,
    TaskStatus,
)
from swarmd.model.replace import replace
from swarmd.model.states import Availability, NodeState
from swarmd.rpc import codec
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.core.tables import Event
from swarmd.store.core.transaction import Change, Put
from swarmd.store.store import Store
from swarmd.store.watch import Overrun

LIVENESS_POLL = 0.5
"""Seconds between looks at gossip, which has no way to wake the leader."""

BATCH = 200
"""Statuses in one transaction."""


class _Heard(msgspec.Struct):
    """When a node was last heard in this term (monotonic seconds)."""

    connected: bool = False
    last_seen: float = 0.0
    lost_at: float = 0.0
    left: bool = False


class Dispatcher:
    """All sessions of one leader's term."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        gossip: Callable[[], Mapping[str, str]],
        managers: Callable[[], list[agent_pb2.ManagerPeer]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._gossip = gossip
        self._managers = managers
        self.images = ImageIndex()
        self._sessions: dict[str, Session] = {}
        self._heard: dict[str, _Heard] = {}
        self._term_start = clock.monotonic()
        self._reports: dict[str, TaskStatus] = {}
        self._acks: list[tuple[Session, int]] = []
        self._reported = asyncio.Event()
        self._judge_now = asyncio.Event()
        self._mesh = Mesh()
        self._mesh_version = store.index

    async def run(self) -> None:
        """Until cancelled at the end of the term."""
        self._rebuild_mesh()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_store(), name="dispatcher: store")
                group.create_task(self._store_reports(), name="dispatcher: statuses")
                group.create_task(self._judge_nodes(), name="dispatcher: liveness")
        finally:
            for session in self._sessions.values():
                session.end()

    # -- sessions --------------------------------------------------------------------------------

    async def open(self, node_id: str, hello: agent_pb2.AgentHello) -> Session:
        """A node connected.  Raises Denied when it is not, or no longer, a node of this swarm."""
        previous = self._sessions.get(node_id)
        if previous is not None:
            previous.end()
        await self._register(node_id, hello)
        session = Session(
            node_id,
            tasks=lambda: self._store.tasks_of_node(node_id),
            spec=self._store.spec_version,
            info=lambda: self._info(node_id),
            mesh=lambda: (self._mesh_version, self._mesh),
        )
        self._sessions[node_id] = session
        now = self._clock.monotonic()
        self._heard[node_id] = _Heard(connected=True, last_seen=now, lost_at=now)
        self._judge_now.set()
        return session

    def close(self, session: Session) -> None:
        """Its stream ended.  A session that was replaced meanwhile changes nothing."""
        session.end()
        if self._sessions.get(session.node_id) is not session:
            return
        del self._sessions[session.node_id]
        self.images.forget(session.node_id)
        heard = self._heard[session.node_id]
        heard.connected, heard.lost_at = False, self._clock.monotonic()
        self._judge_now.set()

    def receive(self, session: Session, message: agent_pb2.AgentMessage) -> None:
        """Anything a node says is a sign of life."""
        heard = self._heard.get(session.node_id)
        if heard is None or self._sessions.get(session.node_id) is not session:
            return
        heard.last_seen = self._clock.monotonic()
        kind = message.WhichOneof("body")
        if kind == "statuses":
            for report in message.statuses.reports:
                self._accept(session.node_id, report)
            self._acks.append((session, message.statuses.sequence))
            self._reported.set()
        elif kind == "images":
            held = {image.ref: image.digest for image in message.images.images}
            self.images.report(session.node_id, held)

    def node_left(self, node_id: str) -> None:
        """The node said it leaves the swarm: no need to wait for its silence."""
        self._heard.setdefault(node_id, _Heard()).left = True
        self._judge_now.set()

    def holders(self, digest_holders: Iterable[str]) -> list[agent_pb2.ImageHolder]:
        """Addresses of the nodes that hold an image."""
        found: list[agent_pb2.ImageHolder] = []
        for node_id in digest_holders:
            node = self._store.get(Node, node_id)
            if node is not None:
                found.append(agent_pb2.ImageHolder(node_id=node_id, address=node.status.address))
        return found

    def connected(self) -> Collection[str]:
        """Nodes with a live session."""
        return self._sessions.keys()

    async def _register(self, node_id: str, hello: agent_pb2.AgentHello) -> None:
        while True:
            node = self._store.get(Node, node_id)
            if node is None or self._store.get(RemovedNode, node_id) is not None:
                raise Denied(
                    f"node {node_id} is not part of this swarm any more: "
                    "run `swarmctl swarm leave --force` on it and join again"
                )
            fresh = _registered(node, hello)
            if fresh == node:
                return
            try:
                await self._store.commit([Put(fresh)])
            except OutOfSequence:
                continue
            return

    def _info(self, node_id: str) -> agent_pb2.SessionInfo:
        cluster = self._store.cluster() or Cluster(id="")
        nodes = sorted(self._store.all(Node), key=lambda node: node.number)
        info = agent_pb2.SessionInfo(
            cluster_id=cluster.id,
            heartbeat=liveness.heartbeat_period(len(nodes), cluster.spec.heartbeat),
            managers=self._managers(),
            gossip_key=cluster.gossip_key,
            root_ca=cluster.root_ca,
        )
        for seed in (node for node in nodes if node.id != node_id and node.status.address):
            info.seeds.add(node_id=seed.id, address=seed.status.address)
            if len(info.seeds) == 8:
                break
        node = self._store.get(Node, node_id)
        if node is not None:
            # The status is the leader's own verdict: sending it would answer every heartbeat loss.
            codec.fill(info.node, replace(node, version=0, updated_at=0.0, status=NodeStatus()))
        return info

    # -- store events ----------------------------------------------------------------------------

    async def _follow_store(self) -> None:
        watch = self._store.watch()
        while True:
            try:
                events = await watch.next()
            except Overrun:
                self._rebuild_mesh()
                self._wake_all()
                continue
            self._react(events)

    def _react(self, events: tuple[Event, ...]) -> None:
        if any(event.kind in (Node, Cluster) for event in events):
            self._wake_all()
        else:
            for node_id in assignments.touched(_task_pairs(events)):
                if node_id in self._sessions:
                    self._sessions[node_id].wake()
        if any(event.kind in (Node, Service, Task) for event in events):
            self._rebuild_mesh()
        if any(event.kind is Node for event in events):
            self._judge_now.set()

    def _rebuild_mesh(self) -> None:
        mesh = build(self._store.all(Node), self._store.all(Service), self._store.all(Task))
        if mesh != self._mesh:
            self._mesh, self._mesh_version = mesh, self._store.index
            self._wake_all()

    def _wake_all(self) -> None:
        for session in self._sessions.values():
            session.wake()

    # -- statuses --------------------------------------------------------------------------------

    def _accept(self, node_id: str, report: agent_pb2.TaskReport) -> None:
        task = self._store.get(Task, report.task_id)
        if task is None or task.node_id != node_id:
            return
        status = codec.from_proto(TaskStatus, report.status)
        waiting = self._reports.get(report.task_id)
        if waiting is None or status.state >= waiting.state:
            self._reports[report.task_id] = status

    async def _store_reports(self) -> None:
        while True:
            await self._reported.wait()
            self._reported.clear()
            reports, self._reports = self._reports, {}
            acks, self._acks = self._acks, []
            for start in range(0, len(reports), BATCH):
                await self._store_batch(dict(list(reports.items())[start : start + BATCH]))
            for session, sequence in acks:
                session.acknowledge(sequence)

    async def _store_batch(self, reports: Mapping[str, TaskStatus]) -> None:
        while True:
            changes: list[Change] = []
            for task_id, status in reports.items():
                task = self._store.get(Task, task_id)
                if task is not None and assignments.newer(task, status.state) and task.status != status:
                    changes.append(Put(replace(task, status=status)))
            try:
                await self._store.commit(changes)
            except OutOfSequence:
                continue  # an orchestrator changed one of them meanwhile: read again
            return

    # -- liveness --------------------------------------------------------------------------------

    async def _judge_nodes(self) -> None:
        while True:
            self._judge_now.clear()
            changes = [Put(node) for node in self._changed_nodes()]
            if changes:
                try:
                    await self._store.commit(changes)
                except OutOfSequence:
                    continue
            try:
                async with asyncio.timeout(LIVENESS_POLL):
                    await self._judge_now.wait()
            except TimeoutError:
                continue

    def _changed_nodes(self) -> list[Node]:
        now, gossip = self._clock.monotonic(), self._gossip()
        nodes = list(self._store.all(Node))
        cluster = self._store.cluster() or Cluster(id="")
        configured = cluster.spec.heartbeat
        period = liveness.heartbeat_period(len(nodes), configured)
        changed: list[Node] = []
        for node in nodes:
            verdict = liveness.judge(
                self._evidence(node, gossip.get(node.id, "")), now=now, period=period, configured=configured
            )
            if verdict.state is NodeState.UNKNOWN and node.status.state is NodeState.DOWN:
                continue  # it was down before this term: nothing says otherwise
            if (verdict.state, verdict.message) != (node.status.state, node.status.message):
                status = replace(node.status, state=verdict.state, message=verdict.message)
                changed.append(replace(node, status=status))
        return changed

    def _evidence(self, node: Node, gossip: str) -> Evidence:
        heard = self._heard.get(node.id)
        if heard is None:
            heard = _Heard(last_seen=self._term_start, lost_at=self._term_start)
        return Evidence(
            connected=heard.connected,
            last_seen=heard.last_seen,
            lost_at=heard.lost_at or self._term_start,
            term_start=self._term_start,
            gossip=gossip,
            left=heard.left,
        )


def _registered(node: Node, hello: agent_pb2.AgentHello) -> Node:
    description = codec.from_proto(NodeDescription, hello.description)
    spec = node.spec
    if not node.description.hostname and hello.availability:
        spec = replace(spec, availability=Availability(hello.availability))
    status = replace(node.status, state=NodeState.READY, message="", address=hello.address)
    return replace(node, spec=spec, description=description, status=status, raft_address=hello.raft_address)


def _task_pairs(events: tuple[Event, ...]) -> list[tuple[Task | None, Task | None]]:
    return [(_as_task(event.old), _as_task(event.new)) for event in events if event.kind is Task]


def _as_task(row: Row | None) -> Task | None:
    return row if isinstance(row, Task) else None
