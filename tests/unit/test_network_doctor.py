"""What the nodes' reports say is wrong with the network, and how the largest packet is searched for."""

from __future__ import annotations

import pytest

from swarmd.control.core import doctor
from swarmd.control.core.doctor_network import of_network
from swarmd.model.network import NetworkAttachment, NetworkSpec, SubnetSpec, TaskNetwork, VirtualIp
from swarmd.model.objects import Network, Service, Task, TaskStatus
from swarmd.model.spec import ServiceSpec, TaskTemplate
from swarmd.model.states import TaskState
from swarmd.node.network import echo
from swarmd.node.network.core.pmtu import SMALLEST, Search
from swarmd.rpc.v1 import netdiag_pb2 as pb

GOOD = {"gossip": "alive", "underlay": 1500, "overlay": 1450}


def swarm(count: int, **wrong: dict[str, object]) -> list[pb.ExaminedNode]:
    """Nodes n1, n2, …; ``wrong``: "n1_n2" → what differs from a good way."""
    names = [f"n{number}" for number in range(1, count + 1)]
    nodes = []
    for name in names:
        report = pb.ExamineNodeResponse(applied=True, audited=True, underlay_mtu=1500, overlay_mtu=1450)
        for other in names:
            if other != name:
                report.ways.add(node_id=other, **(GOOD | wrong.get(f"{name}_{other}", {})))
        nodes.append(pb.ExaminedNode(id=name, hostname=name, state="ready", report=report))
    return nodes


def texts(nodes: list[pb.ExaminedNode]) -> list[tuple[str, str]]:
    return [(one.kind, one.text) for one in doctor.findings(nodes)]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert doctor.findings(swarm(4)) == []
    assert doctor.is_well([])


def test_what_is_wrong_in_both_directions_is_told_once() -> None:
    lost: dict[str, object] = {"overlay": 0}
    found = doctor.findings(swarm(4, n1_n2=lost, n2_n1=lost))
    assert [(one.kind, one.node_id, one.peer_id, one.text) for one in found] == [
        (
            "data-path", "n1", "n2",
            "nothing comes back to n1 from n2 through the overlay (4789/udp); the same the other way",
        )
    ]  # fmt: skip
    assert not doctor.is_well(found)


def test_a_node_that_nobody_reaches_is_told_once() -> None:
    refused: dict[str, object] = {"node_port": "connection refused"}
    assert texts(swarm(4, n1_n3=refused, n2_n3=refused, n4_n3=refused)) == [
        ("node-port", "a connection from the other nodes to n3 on 7946/tcp fails: connection refused")
    ]


def test_what_is_wrong_with_all_blames_nobody() -> None:
    silent: dict[str, object] = {"gossip": "dead"}
    names = ("n1", "n2", "n3")
    wrong = {f"{one}_{other}": silent for one in names for other in names if one != other}
    (found,) = doctor.findings(swarm(3, **wrong))
    assert (found.node_id, found.peer_id) == ("", "")
    assert found.text == "gossip from each node gets no answer from the others (7946/udp), counted as dead"


def test_a_smaller_mtu_is_told_with_the_one_that_would_fit() -> None:
    (found,) = doctor.findings(swarm(3, n1_n2={"underlay": 1400, "overlay": 1350}))
    assert found.text == (
        "containers send packets of 1450 bytes, and only 1350 pass from n1 to n2; "
        "between the nodes themselves 1400 do"
    )
    assert found.advice == (
        "give the interfaces of the nodes an MTU of 1400, "
        "or make networks with --opt com.docker.network.driver.mtu=1350"
    )


def test_a_smaller_mtu_below_an_overlay_that_works_is_told_as_well() -> None:
    assert [kind for kind, _ in texts(swarm(3, n1_n2={"underlay": 1400}))] == ["underlay-mtu"]


def test_echo_requests_without_an_answer_are_only_noticed() -> None:
    (found,) = doctor.findings(swarm(3, n1_n2={"underlay": 0}))
    assert (found.kind, found.severity) == ("icmp", "notice")
    assert doctor.is_well([found])


def test_a_node_that_is_out_of_reach_is_not_blamed_for_its_overlay_as_well() -> None:
    lost: dict[str, object] = {"node_port": "no answer within 3 s", "underlay": 0, "overlay": 0}
    assert [kind for kind, _ in texts(swarm(3, n1_n2=lost))] == ["node-port"]


def test_what_could_not_be_tried_is_no_fault() -> None:
    assert texts(swarm(3, n1_n2={"underlay": -1, "overlay": -1})) == []


def test_nodes_tell_of_themselves_and_alike_is_told_once() -> None:
    nodes = swarm(3)
    for one in nodes[:2]:
        one.report.differences.append("set vip lacks 10.0.1.9")
        one.report.limits.append("no SCTP")
    nodes[2].report.applied = False
    nodes[2].report.conntrack, nodes[2].report.conntrack_max = 99, 100
    found = doctor.findings(nodes)
    assert [(one.severity, one.kind, one.text) for one in found] == [
        ("problem", "rules", "n1, n2: set vip lacks 10.0.1.9"),
        ("problem", "snapshot", "n3: snapshot 0 of the network has not been applied in full"),
        ("problem", "conntrack", "n3: 99 of 100 connections are tracked; "
                                 "the kernel drops new ones when there is no room for more"),
        ("notice", "limit", "n1, n2: no SCTP"),
    ]  # fmt: skip


def test_nodes_that_say_nothing_are_told() -> None:
    down = pb.ExaminedNode(id="n1", hostname="n1", state="down")
    silent = pb.ExaminedNode(id="n2", hostname="n2", state="ready", error="no answer")
    assert texts([down, silent]) == [
        ("down", "n1: the node is down"),
        ("silent", "n2: the node cannot be asked: no answer"),
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 65, 66, 67, 300])
def test_every_node_tries_others_and_is_tried_by_as_many(count: int) -> None:
    names = [f"n{number}" for number in range(count)]
    found = doctor.targets(names)
    each = min(count - 1, 64)
    assert {len(set(others)) for others in found.values()} == {each}
    assert all(one not in others for one, others in found.items())
    assert {sum(name in others for others in found.values()) for name in names} == {each}


def test_faults_of_one_network_are_found_in_its_rows() -> None:
    network = Network(
        id="net", name="front", subnets=(SubnetSpec(subnet="10.0.1.0/29"),),
        spec=NetworkSpec(name="front", options={"com.docker.network.driver.mtu": "1500"}),
    )  # fmt: skip
    template = TaskTemplate(networks=(NetworkAttachment(target="net"),))
    web = Service(id="web", spec=ServiceSpec(name="web", template=template))
    vips = (VirtualIp(network_id="net", addresses=("10.0.1.2",)),)
    api = Service(id="api", spec=ServiceSpec(name="api", template=template), vips=vips)
    tasks = [
        Task(
            id=f"t{number}", service_id="api", service_name="api", spec_version=1, slot=number,
            status=TaskStatus(state=TaskState.RUNNING),
            networks=(TaskNetwork(network_id="net", addresses=(f"10.0.1.{number + 2}",)),),
        )
        for number in (1, 2, 3, 4)
    ]  # fmt: skip
    waiting = Task(
        id="t9", service_id="web", service_name="web", spec_version=1, slot=1,
        status=TaskStatus(state=TaskState.NEW, error="no address is free in network front"),
    )  # fmt: skip
    found = list(of_network(network, [web, api], [*tasks, waiting], swarm(1)))
    assert [(one.severity, one.text) for one in found] == [
        ("problem", "service web has no virtual address in front"),
        ("problem", "task web.1: no address is free in network front"),
        ("notice", "5 of about 5 addresses of front are taken"),
        ("problem", "front wants an MTU of 1500, and the overlay of n1 takes 1450 bytes"),
    ]


@pytest.mark.parametrize("passes", [0, SMALLEST, 1280, 1349, 1350, 1499, 1500])
def test_the_largest_packet_is_found_in_few_steps(passes: int) -> None:
    search, steps = Search(1500), 0
    while (size := search.next()) is not None:
        search = search.told(size, came_back=size <= passes)
        steps += 1
    assert search.passes == passes
    assert steps <= 13


def test_echo_requests_are_of_the_size_that_was_asked_for_and_their_replies_known() -> None:
    packet = echo.request(77, 5, 1480)
    assert len(packet) == 1480
    assert echo.checksum(packet) == 0
    header = bytes([0x45, *[0] * 19])
    reply = header + bytes([0]) + packet[1:]
    assert echo.reply_number(reply, 77) == 5
    assert echo.reply_number(reply, 78) == -1
    assert echo.reply_number(header + packet, 77) == -1  # a request that came back
    assert echo.reply_number(b"", 77) == -1
