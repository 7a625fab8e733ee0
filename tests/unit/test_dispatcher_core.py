"""The dispatcher's decisions: who is down, what a node is told, what the mesh looks like."""

from __future__ import annotations

from swarmd.manager.dispatcher.core.assignments import Told, newer, touched
from swarmd.manager.dispatcher.core.liveness import Evidence, heartbeat_period, judge, patience
from swarmd.manager.dispatcher.core.mesh import build
from swarmd.model.objects import Node, NodeStatus, Service, Task, TaskStatus
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec, ServiceSpec
from swarmd.model.states import NodeState, TaskState

PERIOD, CONFIGURED = 1.0, 5.0


def verdict(now: float, **known: object) -> NodeState:
    base = Evidence(connected=False, last_seen=100.0, lost_at=100.0, term_start=0.0)
    return judge(replace(base, **known), now=now, period=PERIOD, configured=CONFIGURED).state


def a_task(task_id: str = "t1", **fields: object) -> Task:
    base = Task(
        id=task_id, service_id="s1", service_name="web", spec_version=1, slot=1, node_id="n1",
        status=TaskStatus(state=TaskState.ASSIGNED),
    )  # fmt: skip
    return replace(base, **fields)


def running(task_id: str = "t1", node_id: str = "n1", **fields: object) -> Task:
    status = TaskStatus(state=TaskState.RUNNING, address=f"10.128.1.{task_id[1:]}")
    return a_task(task_id, node_id=node_id, status=status, **fields)


def a_node(node_id: str, number: int, state: NodeState = NodeState.READY) -> Node:
    return Node(id=node_id, number=number, status=NodeStatus(state=state, address=f"172.30.0.{number}"))


def test_a_connected_node_is_ready_until_three_periods_are_silent() -> None:
    assert verdict(114.9, connected=True) is NodeState.READY
    assert verdict(115.0, connected=True) is NodeState.DOWN


def test_gossip_ends_the_wait_for_a_connected_node_that_went_quiet() -> None:
    assert verdict(101.0, connected=True, gossip="dead") is NodeState.READY
    assert verdict(102.0, connected=True, gossip="dead") is NodeState.DOWN


def test_a_lost_session_alone_moves_nothing_for_fifteen_seconds() -> None:
    assert verdict(101.0, gossip="suspect") is NodeState.DISCONNECTED
    assert verdict(114.9) is NodeState.DISCONNECTED
    assert verdict(115.0) is NodeState.DOWN


def test_a_lost_session_and_gossips_verdict_are_enough() -> None:
    assert verdict(100.5, gossip="dead") is NodeState.DOWN


def test_a_new_leader_gives_everyone_time_to_come_back() -> None:
    assert verdict(101.0, term_start=100.0, gossip="dead") is NodeState.UNKNOWN
    assert verdict(103.0, term_start=100.0, gossip="dead") is NodeState.DOWN
    assert verdict(110.0, term_start=100.0) is NodeState.UNKNOWN
    assert verdict(115.0, term_start=100.0) is NodeState.DOWN


def test_a_node_that_left_is_down_at_once() -> None:
    assert verdict(100.0, left=True) is NodeState.DOWN
    assert verdict(100.0, left=True, connected=True) is NodeState.DOWN


def test_heartbeats_slow_down_with_the_swarm_but_not_beyond_the_setting() -> None:
    assert heartbeat_period(3, 5.0) == 1.0
    assert heartbeat_period(1000, 5.0) == 2.0
    assert heartbeat_period(100_000, 5.0) == 5.0


def test_a_shorter_heartbeat_is_expected_once_the_longer_one_has_passed_three_times() -> None:
    known = patience(None, 5.0, 0.0)
    assert patience(known, 60.0, 1.0).seconds == 60.0, "a longer one at once"
    for now, expected in ((100.0, 5.0), (114.9, 5.0), (115.0, 0.2), (116.0, 0.2)):
        known = patience(known, 0.2, now)
        assert known.seconds == expected, now
    known = patience(patience(patience(None, 5.0, 0.0), 1.0, 10.0), 5.0, 11.0)
    assert patience(known, 1.0, 26.0).seconds == 5.0, "what was taken back counts from anew"


def test_a_node_is_told_each_change_once() -> None:
    told = Told()
    first = told.whole([a_task()])
    assert [t.id for t in first.tasks] == ["t1"]
    assert first.specs == (("s1", 1),)
    assert told.advance([running()]).is_empty
    stop = told.advance([running(desired_state=TaskState.SHUTDOWN)])
    assert [t.desired_state for t in stop.tasks] == [TaskState.SHUTDOWN]
    assert stop.specs == ()
    assert told.advance([]).removed == ("t1",)


def test_a_task_that_is_not_placed_yet_is_nobodys_business() -> None:
    assert Told().whole([a_task(status=TaskStatus(state=TaskState.PENDING))]).is_empty


def test_states_only_grow_and_an_ended_task_stays_ended() -> None:
    assert newer(running(), TaskState.RUNNING)
    assert not newer(running(), TaskState.STARTING)
    assert not newer(a_task(status=TaskStatus(state=TaskState.FAILED)), TaskState.REJECTED)


def test_only_nodes_with_news_are_touched() -> None:
    assert touched([(a_task(), running())]) == set()
    assert touched([(running(), running(desired_state=TaskState.SHUTDOWN))]) == {"n1"}
    assert touched([(None, a_task(node_id="n2"))]) == {"n2"}


SERVICE = Service(id="s1", spec=ServiceSpec(name="web"), ports=(PortSpec(target=80, published=8080),))


def test_a_port_leads_to_running_tasks_on_living_nodes_only() -> None:
    nodes = [a_node("n1", 1), a_node("n2", 2, NodeState.DOWN), a_node("n3", 3, NodeState.DISCONNECTED)]
    tasks = [
        running("t1"),
        running("t2", "n2"),
        running("t3", "n3"),
        running("t4", desired_state=TaskState.SHUTDOWN),
        a_task("t5"),
    ]
    (port,) = build(nodes, [SERVICE], tasks).ports
    assert [backend.task_id for backend in port.backends] == ["t1", "t3"]
    assert (port.port, port.backends[0].port) == (8080, 80)


def test_a_port_says_all_that_its_service_asked_for() -> None:
    asked = PortSpec(target=80, published=80, host_ip="192.0.2.1", allow=("10.0.0.0/8",), sticky=True)
    spec = ServiceSpec(name="web", ingress_source="masquerade")
    task = running("t1")
    task = replace(task, status=replace(task.status, address6="fd73:7761:726d:1::5"))
    (port,) = build([a_node("n1", 1)], [Service(id="s1", spec=spec, ports=(asked,))], [task]).ports
    assert (port.host_ip, port.allow, port.sticky) == (asked.host_ip, asked.allow, asked.sticky)
    assert (port.source, port.backends[0].address6) == ("masquerade", "fd73:7761:726d:1::5")


def test_nodes_of_an_older_version_do_not_open_what_they_would_open_to_everybody() -> None:
    plain, guarded = (PortSpec(target=80, published=n, allow=a) for n, a in ((80, ()), (81, ("10.0.0.0/8",))))
    service = Service(id="s1", spec=ServiceSpec(name="web"), ports=(plain, guarded))
    ports = build([a_node("n1", 1)], [service], []).ports
    assert [port.port for port in ports if port.is_for("n1", level=3)] == [80]
    assert [port.port for port in ports if port.is_for("n1", level=4)] == [80, 81]


def test_a_task_that_is_not_ready_gets_no_requests() -> None:
    ready, unready = running("t1"), running("t2")
    unready = replace(unready, status=replace(unready.status, unready=True))
    (port,) = build([a_node("n1", 1)], [SERVICE], [ready, unready]).ports
    assert [backend.task_id for backend in port.backends] == ["t1"]


def test_the_mesh_of_the_same_rows_is_equal_whatever_their_order() -> None:
    nodes = [a_node("n1", 1), a_node("n2", 2)]
    tasks = [running("t1"), running("t2", "n2")]
    assert build(nodes, [SERVICE], tasks) == build(nodes[::-1], [SERVICE], tasks[::-1])


def test_a_host_mode_port_is_opened_on_the_nodes_of_its_tasks_only_each_for_its_own() -> None:
    port = PortSpec(target=80, published=8080, mode="host")
    service = Service(id="s1", spec=ServiceSpec(name="web"), ports=(port,))
    ports = build([a_node("n1", 1), a_node("n2", 2)], [service], [running("t1"), running("t2", "n2")]).ports
    assert [(p.node_id, [b.task_id for b in p.backends]) for p in ports] == [("n1", ["t1"]), ("n2", ["t2"])]
