"""The leader's end of node sessions: who may open one, what is told, what is stored, who counts as down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from swarmd.kit.supervise import Nursery
from swarmd.manager.dispatcher.board import DIFFERENCES
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.manager.dispatcher.judging import LIVENESS_POLL
from swarmd.manager.dispatcher.reporting import TEXT
from swarmd.manager.dispatcher.session import Session
from swarmd.model import image_ref
from swarmd.model.errors import Denied, Invalid, Unavailable
from swarmd.model.objects import (
    Cluster,
    Node,
    NodeDescription,
    NodeStatus,
    RemovedNode,
    Row,
    Service,
    SpecVersion,
    Task,
    TaskStatus,
)
from swarmd.model.replace import replace
from swarmd.model.states import Availability, NodeState, TaskState
from swarmd.rpc import codec
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.core.transaction import Delete, Put
from tests.unit.test_control_bed import Bed, a_spec, a_task, eventually, ingress, settle

SILENCE = 15.0
"""Seconds: three of the configured heartbeats."""


def hello(name: str = "host", *, raft_address: str = "", availability: str = "") -> agent_pb2.AgentHello:
    message = agent_pb2.AgentHello(address="10.0.0.1", raft_address=raft_address, availability=availability)
    codec.fill(message.description, NodeDescription(hostname=name))
    return message


class Agent:
    """A node's end: keeps what it is told."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.told: list[agent_pb2.ManagerMessage] = []
        self.ended = False

    async def listen(self) -> None:
        async for message in self.session.messages():
            self.told.append(message)
        self.ended = True

    def got(self, kind: str) -> list[agent_pb2.ManagerMessage]:
        return [message for message in self.told if message.WhichOneof("body") == kind]

    @property
    def acked(self) -> int:
        return max((message.ack.sequence for message in self.got("ack")), default=0)

    @property
    def meshes(self) -> list[agent_pb2.NetworkSnapshot]:
        return [message.network for message in self.got("network")]


class Term(Bed):
    """A dispatcher over a store, with gossip as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.gossip: dict[str, str] = {}
        self.failures: list[BaseException] = []
        self.nursery = Nursery(lambda name, error: self.failures.append(error))
        self.dispatcher = self.new_dispatcher()
        self.run: asyncio.Task[object] | None = None

    def new_dispatcher(self) -> Dispatcher:
        return Dispatcher(self.store, self.clock, gossip=lambda: self.gossip, managers=list)

    def begin(self) -> None:
        self.run = self.nursery.start("dispatcher", self.dispatcher.run())

    async def open(self, node_id: str = "n1", message: agent_pb2.AgentHello | None = None) -> Agent:
        agent = Agent(await self.dispatcher.open(node_id, message or hello()))
        self.nursery.start(f"agent {node_id}", agent.listen())
        await settle()
        return agent

    def say(self, agent: Agent, sequence: int, *reports: tuple[str, TaskState], error: str = "") -> None:
        batch = agent_pb2.StatusBatch(sequence=sequence)
        for task_id, state in reports:
            codec.fill(batch.reports.add(task_id=task_id).status, TaskStatus(state=state, error=error))
        self.dispatcher.receive(agent.session, agent_pb2.AgentMessage(statuses=batch))

    def node(self, node_id: str = "n1") -> Node:
        row = self.store.get(Node, node_id)
        assert row is not None
        return row

    def task(self, task_id: str = "t1") -> Task:
        row = self.store.get(Task, task_id)
        assert row is not None
        return row

    def state_of(self, node_id: str = "n1") -> NodeState:
        return self.node(node_id).status.state

    async def later(self, seconds: float) -> None:
        """Time passes in the steps in which the leader looks."""
        while seconds > 0:
            await settle()
            step = min(seconds, LIVENESS_POLL)
            self.clock.advance(step)
            seconds -= step
        await settle()


@pytest.fixture
async def term() -> AsyncIterator[Term]:
    term = Term()
    await term.put(
        Cluster(id="c1"),
        Node(id="n1", number=1, status=NodeStatus(address="10.0.0.1")),
        Node(id="n2", number=2, status=NodeStatus(address="10.0.0.2")),
    )
    term.dispatcher = term.new_dispatcher()
    term.begin()
    await settle()
    yield term
    await term.nursery.close()
    assert term.failures == []


def running(task_id: str, node_id: str, address: str = "") -> Task:
    return a_task(task_id, node_id, status=TaskStatus(state=TaskState.RUNNING, address=address))


async def published(term: Term) -> None:
    service = Service(id="s1", spec=a_spec(ports=(ingress(80),)), ports=(ingress(80),))
    version = SpecVersion(id="s1.1", service_id="s1", number=1, template=service.spec.template)
    await term.put(service, version)


# -- sessions ------------------------------------------------------------------------------------


async def test_a_session_begins_with_the_swarm_the_mesh_and_the_whole_set(term: Term) -> None:
    await published(term)
    await term.put(running("t1", "n1"), running("t2", "n2"), a_task("t3", "n1", TaskState.PENDING))
    agent = await term.open()
    assert [m.WhichOneof("body") for m in agent.told] == ["session", "network", "assignments"]
    info, whole = agent.told[0].session, agent.told[2].assignments
    assert (info.cluster_id, info.node.number, info.node.spec.role) == ("c1", 1, "worker")
    assert [(seed.node_id, seed.address) for seed in info.seeds] == [("n2", "10.0.0.2")]
    assert (whole.complete, whole.sequence, [task.task_id for task in whole.tasks]) == (True, 1, ["t1"])
    assert [(spec.service_id, spec.number) for spec in whole.specs] == [("s1", 1)]


async def test_a_hello_is_written_into_the_row(term: Term) -> None:
    await term.open("n1", hello("alpha", raft_address="10.0.0.1:2377", availability="drain"))
    row = term.node()
    assert (row.description.hostname, row.raft_address) == ("alpha", "10.0.0.1:2377")
    assert row.status == NodeStatus(state=NodeState.READY, address="10.0.0.1")
    assert row.spec.availability is Availability.DRAIN
    await term.put(replace(row, spec=replace(row.spec, availability=Availability.ACTIVE)))
    await term.open("n1", hello("alpha", availability="drain"))
    assert term.node().spec.availability is Availability.ACTIVE, "asked for at the join only"


async def test_a_hello_that_makes_no_sense_is_refused(term: Term) -> None:
    with pytest.raises(Invalid, match='invalid Availability: "asleep"'):
        await term.dispatcher.open("n1", hello(availability="asleep"))
    assert list(term.dispatcher.connected()) == []


async def test_unknown_and_removed_nodes_are_told_what_to_do(term: Term) -> None:
    await term.put(RemovedNode(id="n2", until=1.0))
    for node_id in ("nobody", "n2"):
        with pytest.raises(Denied, match=f"node {node_id} is not part of this swarm any more: run `swarmctl"):
            await term.dispatcher.open(node_id, hello())
    assert list(term.dispatcher.connected()) == []


async def test_a_newer_session_of_a_node_ends_the_older_one(term: Term) -> None:
    old = await term.open()
    new = await term.open()
    await eventually(lambda: old.ended)
    term.dispatcher.close(old.session)
    assert list(term.dispatcher.connected()) == ["n1"]
    await term.put(running("t1", "n1"))
    await eventually(lambda: len(new.got("assignments")) == 2)
    term.dispatcher.close(new.session)
    assert list(term.dispatcher.connected()) == []


async def test_two_sessions_that_open_at_the_same_moment_leave_one(term: Term) -> None:
    first = asyncio.ensure_future(term.dispatcher.open("n1", hello("a")))
    second = asyncio.ensure_future(term.dispatcher.open("n1", hello("b")))
    agents = [Agent(await first), Agent(await second)]
    for agent in agents:
        term.nursery.start("agent", agent.listen())
    await settle()
    assert sorted(agent.ended for agent in agents) == [False, True]


async def test_a_session_that_opens_before_the_loops_run_gets_the_whole_mesh(term: Term) -> None:
    await published(term)
    await term.put(running("t1", "n1", "10.128.1.2"))
    await term.nursery.close()
    term.dispatcher = term.new_dispatcher()
    agent = await term.open()
    await term.put(running("t2", "n1", "10.128.1.3"))
    term.begin()
    await eventually(lambda: len(agent.meshes) == 2)
    backends = [[one.task_id for one in mesh.ports[0].backends] for mesh in agent.meshes]
    assert backends == [["t1"], ["t1", "t2"]]
    assert [task.task_id for task in agent.told[-1].assignments.tasks] == ["t2"], "no event is lost"


async def test_no_session_outlives_the_term(term: Term) -> None:
    agent = await term.open()
    assert term.run is not None
    term.run.cancel()
    await eventually(lambda: agent.ended)
    with pytest.raises(Unavailable, match="does not lead the swarm any more"):
        await term.dispatcher.open("n1", hello())


async def test_a_session_does_not_begin_when_the_term_ended_while_it_registered(term: Term) -> None:
    async def end() -> None:
        term.dispatcher.end()

    term.proposer.first.append(end)
    with pytest.raises(Unavailable):
        await term.dispatcher.open("n1", hello("new name"))
    assert list(term.dispatcher.connected()) == []


async def test_a_removed_node_is_told_to_end_its_tasks_and_then_no_more(term: Term) -> None:
    await term.put(running("t1", "n1"))
    agent, other = await term.open(), await term.open("n2", hello("two"))
    orphaned = replace(term.task(), status=TaskStatus(state=TaskState.ORPHANED))
    await term.store.commit([Delete(Node, "n1", term.node().version), Put(orphaned)])
    await eventually(lambda: agent.ended)
    assert [list(m.assignments.removed) for m in agent.got("assignments")] == [[], ["t1"]]
    assert all(m.session.node.id == "n1" for m in agent.got("session")), "never an empty row"
    assert list(term.dispatcher.connected()) == ["n2"]
    assert not other.ended


async def test_a_node_is_told_of_its_own_tasks_only(term: Term) -> None:
    await published(term)
    one, two = await term.open(), await term.open("n2", hello("two"))
    before = len(two.told)
    await term.put(a_task("t1", "n1", TaskState.ASSIGNED))
    await eventually(lambda: len(one.got("assignments")) == 2)
    delta = one.got("assignments")[1].assignments
    assert (delta.complete, delta.sequence, [t.task_id for t in delta.tasks]) == (False, 2, ["t1"])
    assert len(two.told) == before


async def test_a_changed_row_is_sent_but_not_the_leaders_own_verdict(term: Term) -> None:
    agent = await term.open()
    await term.put(replace(term.node(), status=replace(term.node().status, message="slow")))
    await settle()
    assert len(agent.got("session")) == 1
    await term.put(replace(term.node(), spec=replace(term.node().spec, labels={"zone": "a"})))
    await eventually(lambda: len(agent.got("session")) == 2)
    assert agent.got("session")[1].session.node.spec.labels["zone"] == "a"


# -- statuses ------------------------------------------------------------------------------------


async def test_statuses_are_stored_once_and_acknowledged(term: Term) -> None:
    await term.put(a_task("t1", "n1", TaskState.ASSIGNED), a_task("t2", "n1", TaskState.ASSIGNED))
    agent = await term.open()
    commits = term.proposer.count
    term.say(agent, 1, ("t1", TaskState.STARTING))
    term.say(agent, 2, ("t1", TaskState.RUNNING), ("t2", TaskState.PREPARING))
    await eventually(lambda: agent.acked == 2)
    assert (term.task("t1").state, term.task("t2").state) == (TaskState.RUNNING, TaskState.PREPARING)
    assert term.proposer.count == commits + 1, "one transaction for all that had gathered"
    term.say(agent, 3, ("t1", TaskState.RUNNING))
    await eventually(lambda: agent.acked == 3)
    assert term.proposer.count == commits + 1, "what is known is not written again"
    assert [spread.below[-1] for spread in term.dispatcher.starts.spreads().values()] == [1]


async def test_stale_and_foreign_reports_are_acknowledged_and_change_nothing(term: Term) -> None:
    await term.put(running("t1", "n1"), running("t2", "n2"), a_task("t3", "n1", TaskState.FAILED))
    agent = await term.open()
    before = list(term.store.all(Task))
    states = {
        "t1": TaskState.STARTING,
        "t2": TaskState.FAILED,
        "t3": TaskState.REJECTED,
        "t9": TaskState.FAILED,
    }
    term.say(agent, 7, *states.items())
    await eventually(lambda: agent.acked == 7)
    assert list(term.store.all(Task)) == before


async def test_a_report_out_of_order_does_not_hide_the_newer_one(term: Term) -> None:
    await term.put(a_task("t1", "n1", TaskState.ASSIGNED))
    agent = await term.open()
    term.say(agent, 1, ("t1", TaskState.RUNNING))
    term.say(agent, 2, ("t1", TaskState.PREPARING))
    await eventually(lambda: agent.acked == 2)
    assert term.task().state is TaskState.RUNNING


async def test_a_status_and_an_order_written_at_the_same_moment_are_both_kept(term: Term) -> None:
    await term.put(a_task("t1", "n1", TaskState.ASSIGNED))
    agent = await term.open()
    term.quicker(lambda: replace(term.task(), desired_state=TaskState.SHUTDOWN))
    term.say(agent, 1, ("t1", TaskState.RUNNING))
    await eventually(lambda: agent.acked == 1)
    assert (term.task().state, term.task().desired_state) == (TaskState.RUNNING, TaskState.SHUTDOWN)


async def test_a_session_that_was_replaced_is_not_listened_to(term: Term) -> None:
    await term.put(a_task("t1", "n1", TaskState.ASSIGNED))
    old = await term.open()
    await term.open()
    term.say(old, 1, ("t1", TaskState.FAILED))
    await settle()
    assert term.task().state is TaskState.ASSIGNED


async def test_a_state_that_is_none_is_refused_and_a_long_error_is_cut(term: Term) -> None:
    await term.put(a_task("t1", "n1", TaskState.ASSIGNED))
    agent = await term.open()
    batch = agent_pb2.StatusBatch(sequence=1)
    batch.reports.add(task_id="t1").status.state = 7
    with pytest.raises(Invalid, match="task t1 is reported in state 7, which is none"):
        term.dispatcher.receive(agent.session, agent_pb2.AgentMessage(statuses=batch))
    term.say(agent, 2, ("t1", TaskState.FAILED), error="x" * 10 * TEXT)
    await eventually(lambda: agent.acked == 2)
    assert term.task().status.error == "x" * TEXT


# -- the mesh ------------------------------------------------------------------------------------


async def test_the_mesh_is_sent_when_it_changes_and_only_then(term: Term) -> None:
    await published(term)
    agent = await term.open()
    first = agent.meshes[-1]
    await term.put(a_task("t1", "n1", TaskState.STARTING))
    await settle()
    assert agent.meshes == [first], "a task that does not answer changes nothing"
    status = TaskStatus(state=TaskState.RUNNING, address="10.128.1.2")
    await term.put(replace(term.task(), status=status))
    await eventually(lambda: len(agent.meshes) == 2)
    assert agent.meshes[1].version > first.version
    assert [one.address for one in agent.meshes[1].ports[0].backends] == ["10.128.1.2"]
    await term.put(replace(term.task(), desired_state=TaskState.SHUTDOWN))
    await eventually(lambda: len(agent.meshes) == 3)
    assert list(agent.meshes[2].ports[0].backends) == []


async def test_a_change_of_one_service_is_told_as_a_difference_and_a_new_session_hears_the_whole(
    term: Term,
) -> None:
    await published(term)
    await term.put(running("t1", "n1", "10.128.1.2"))
    fresh = hello()
    fresh.description.feature_level = DIFFERENCES
    agent, old = await term.open("n1", fresh), await term.open("n2")
    whole = agent.meshes[0]
    assert (whole.since, [port.service_id for port in whole.ports]) == (0, ["s1"])
    before = agent.meshes[-1].version
    told = len(agent.meshes)
    await term.put(running("t2", "n1", "10.128.1.3"))
    await eventually(lambda: len(agent.meshes) == told + 1)
    part = agent.meshes[-1]
    assert (part.since, list(part.changed), list(part.nodes)) == (before, ["s1"], [])
    assert "nodes" in part.kept
    assert [one.task_id for one in part.ports[0].backends] == ["t1", "t2"]
    assert (old.meshes[-1].since, len(old.meshes[-1].nodes)) == (0, 2), "an older node knows wholes only"
    service = term.store.get(Service, "s1")
    assert service is not None
    await term.store.commit([Delete(Service, service.id, service.version)])
    await eventually(lambda: len(agent.meshes) == told + 2)
    assert (list(agent.meshes[-1].changed), list(agent.meshes[-1].ports)) == (["s1"], [])
    again = await term.open("n1", fresh)
    assert (again.meshes[-1].since, list(again.meshes[-1].ports)) == (0, [])
    assert len(again.meshes[-1].nodes) == 2


# -- images --------------------------------------------------------------------------------------


async def test_images_are_known_as_long_as_their_node_is_connected(term: Term) -> None:
    agent = await term.open()
    inventory = agent_pb2.ImageInventory()
    inventory.images.add(ref="nginx:1", digest="sha256:1")
    term.dispatcher.receive(agent.session, agent_pb2.AgentMessage(images=inventory))
    reference = image_ref.parse("nginx:1")
    assert term.dispatcher.holdings.images.locate(reference) == ("sha256:1", ["n1"])
    assert [one.address for one in term.dispatcher.holdings.holders(["n1", "gone"])] == ["10.0.0.1"]
    term.dispatcher.close(agent.session)
    assert term.dispatcher.holdings.images.locate(reference) == ("", [])


# -- liveness ------------------------------------------------------------------------------------


def beat(term: Term, agent: Agent) -> None:
    term.dispatcher.receive(agent.session, agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat()))


async def test_a_node_that_beats_is_ready_and_one_that_falls_silent_is_down(term: Term) -> None:
    agent = await term.open()
    for _ in range(3):
        await term.later(SILENCE - 1)
        beat(term, agent)
        assert term.state_of() is NodeState.READY
    with capture_logs() as logs:
        await term.later(2 * SILENCE)
    assert (term.state_of(), term.node().status.message) == (NodeState.DOWN, "heartbeat failure")
    said = [line["reason"] for line in logs if line["event"] == "node_down" and line["node"] == "n1"]
    assert said == ["heartbeat failure"], "once"
    beat(term, agent)
    await term.later(LIVENESS_POLL)
    assert term.state_of() is NodeState.READY


async def test_a_lost_session_and_gossip_together_need_no_silence(term: Term) -> None:
    agent = await term.open()
    await term.later(5.0)
    beat(term, agent)
    term.gossip["n1"] = "dead"
    await term.later(LIVENESS_POLL)
    assert term.state_of() is NodeState.READY, "its session says otherwise"
    term.dispatcher.close(agent.session)
    await eventually(lambda: term.state_of() is NodeState.DOWN)
    assert term.node().status.message == "the other nodes cannot reach it"


async def test_a_lost_session_alone_is_a_disconnection_first(term: Term) -> None:
    agent = await term.open()
    await term.later(1.0)
    term.dispatcher.close(agent.session)
    await eventually(lambda: term.state_of() is NodeState.DISCONNECTED)
    await term.later(SILENCE + LIVENESS_POLL)
    assert term.state_of() is NodeState.DOWN


async def test_a_goodbye_is_believed_at_once_and_a_return_undoes_it(term: Term) -> None:
    await term.open()
    term.dispatcher.node_left("n1")
    await eventually(lambda: term.state_of() is NodeState.DOWN)
    assert term.node().status.message == "node left the swarm"
    await term.open()
    await eventually(lambda: term.state_of() is NodeState.READY)


async def test_a_new_leader_does_not_revive_what_was_down(term: Term) -> None:
    row = replace(term.node("n2"), status=NodeStatus(state=NodeState.DOWN, address="10.0.0.2"))
    await term.put(row)
    await term.later(SILENCE / 2)
    assert term.state_of("n2") is NodeState.DOWN
    assert term.state_of("n1") is NodeState.UNKNOWN


async def test_a_verdict_survives_a_change_of_the_row_at_the_same_moment(term: Term) -> None:
    agent = await term.open()
    await term.later(1.0)

    def labelled() -> Row:
        return replace(term.node(), spec=replace(term.node().spec, labels={"a": "b"}))

    term.quicker(labelled)
    term.dispatcher.close(agent.session)
    await eventually(lambda: term.state_of() is NodeState.DISCONNECTED)
    assert term.node().spec.labels == {"a": "b"}


async def test_nothing_is_written_while_nothing_changes(term: Term) -> None:
    agent = await term.open()
    await term.later(LIVENESS_POLL)
    commits = term.proposer.count
    for _ in range(20):
        beat(term, agent)
        await term.later(LIVENESS_POLL)
    assert term.proposer.count == commits
