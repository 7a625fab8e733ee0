"""Where a packet of a task would go: every kind of destination, and what refuses it."""

from __future__ import annotations

import msgspec
import pytest

from swarmd.control.core.trace import trace
from swarmd.control.core.trace_rows import Rows, Told, Trace, destination, single
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import Invalid
from swarmd.model.network import (
    ContainerNetwork,
    NetworkAttachment,
    NetworkSpec,
    SubnetSpec,
    TaskNetwork,
    VirtualIp,
)
from swarmd.model.objects import Network, Node, NodeDescription, NodeStatus, Service, Task, TaskStatus
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec, ServiceSpec, TaskTemplate
from swarmd.model.states import NodeState, TaskState


def a_node(number: int, state: NodeState = NodeState.READY) -> Node:
    return Node(
        id=f"n{number}",
        number=number,
        description=NodeDescription(hostname=f"node{number}"),
        status=NodeStatus(state=state, address=f"172.30.0.{number}"),
    )


def a_network(name: str, subnet: str, *, internal: bool = False) -> Network:
    return Network(
        id=f"{name}-id",
        name=name,
        spec=NetworkSpec(name=name, internal=internal),
        subnets=(SubnetSpec(subnet=subnet),),
    )


def a_service(
    name: str,
    *networks: str,
    vip: str = "",
    ports: tuple[PortSpec, ...] = (),
    aliases: tuple[str, ...] = (),
    source: str = "",
) -> Service:
    template = TaskTemplate(
        networks=tuple(NetworkAttachment(target=f"{one}-id", aliases=aliases) for one in networks)
    )
    return Service(
        id=f"{name}-id",
        spec=ServiceSpec(name=name, template=template, ingress_source=source),
        ports=ports,
        vips=(VirtualIp(network_id=f"{networks[0]}-id", addresses=(vip,)),) if vip else (),
    )


def a_task(
    name: str, slot: int, node: int, home: str, state: TaskState = TaskState.RUNNING, **networks: str
) -> Task:
    return Task(
        id=f"{name}{slot}taskid00000000",
        service_id=f"{name}-id",
        service_name=name,
        spec_version=1,
        slot=slot,
        node_id=f"n{node}",
        status=TaskStatus(state=state, address=home),
        networks=tuple(TaskNetwork(network_id=f"{one}-id", addresses=(a,)) for one, a in networks.items()),
    )


def http(target: int = 80, published: int = 8080, **words: object) -> PortSpec:
    return replace(PortSpec(protocol="tcp", target=target, published=published, mode="ingress"), **words)


WEB = a_task("web", 1, 1, "10.128.1.1", front="10.0.1.3")
API = a_task("api", 1, 1, "10.128.1.2", front="10.0.1.4", back="10.0.2.4")
API2 = a_task("api", 2, 2, "10.128.2.2", front="10.0.1.5", back="10.0.2.5")
DB = a_task("db", 1, 2, "10.128.2.3", back="10.0.2.3")
NETWORKS = (
    a_network("front", "10.0.1.0/24"),
    a_network("back", "10.0.2.0/24", internal=True),
)
SERVICES = (
    a_service("web", "front", vip="10.0.1.2", ports=(http(),)),
    a_service("api", "front", "back", vip="10.0.1.9", aliases=("backend",)),
    a_service("db", "back", vip="10.0.2.2"),
)


def rows(
    *,
    tasks: tuple[Task, ...] = (WEB, API, API2, DB),
    services: tuple[Service, ...] = SERVICES,
    nodes: tuple[Node, ...] = (a_node(1), a_node(2)),
) -> Rows:
    return Rows(
        nodes={one.id: one for one in nodes},
        services={one.id: one for one in services},
        networks={one.id: one for one in NETWORKS},
        tasks=tasks,
    )


def traced(
    to: str,
    source: Task = WEB,
    known: Rows | None = None,
    *,
    template: TaskTemplate | None = None,
    told: Told | None = None,
    meant: Task | None = None,
) -> Trace:
    known = known or rows()
    service = known.services.get(source.service_id)
    template = template or (service.spec.template if service else TaskTemplate())
    return trace(known, source, template, destination(to), told or Told(snapshot=7), meant=meant)


def texts(found: Trace, kind: str) -> list[str]:
    return [step.text for step in found.steps if step.kind == kind]


def refusals(found: Trace) -> list[str]:
    return [step.text for step in found.steps if step.refused]


def test_a_name_leads_to_the_virtual_address_and_from_there_to_every_task_that_is_up() -> None:
    found = traced("api:80")
    assert found.verdict == "arrives"
    assert texts(found, "name") == ["service api in network front: its virtual address 10.0.1.9"]
    assert texts(found, "backend") == [
        "2 tasks of it are up, each gets 1 in 2 new connections: api.1 (10.0.1.4), api.2 (10.0.1.5)"
    ]
    assert texts(found, "route") == [
        "10.0.1.4: on the same node, node1; no overlay",
        "10.0.1.5: through the overlay (vx0) to node2 at 172.30.0.2, 4789/udp",
    ]
    assert found.conclusion == "one of api.1, api.2 gets it on port 80/tcp, if something listens there"


def test_a_way_that_is_encrypted_is_said_to_be() -> None:
    known = rows()
    front = known.networks["front-id"]
    safe = msgspec.structs.replace(front, spec=msgspec.structs.replace(front.spec, encrypted=True))
    found = traced(
        "api:80", known=msgspec.structs.replace(known, networks={**known.networks, front.id: safe})
    )
    assert texts(found, "route")[1] == "10.0.1.5: encrypted (sx0) to node2 at 172.30.0.2, 4790/tcp"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("API", "service api in network front: its virtual address 10.0.1.9"),
        ("backend", "an alias of service api in network front: its virtual address 10.0.1.9"),
        ("backend.front", "an alias of service api in network front: its virtual address 10.0.1.9"),
        ("tasks.api", "the tasks of service api in network front: its tasks there that are up: "
                      "10.0.1.4, 10.0.1.5"),
        ("tasks.backend", "the tasks of service api in network front: its tasks there that are up: "
                          "10.0.1.4, 10.0.1.5"),
        ("2.api", "slot 2 of service api in network front: its tasks there that are up: 10.0.1.5"),
        (f"api.2.{API2.id}", "task api.2 in network front"),
        (API2.id[:12], "task api.2 in network front"),
    ],
)  # fmt: skip
def test_names_are_answered_as_the_dns_of_the_container_does(name: str, answer: str) -> None:
    found = traced(name)
    assert (found.verdict, texts(found, "name")) == ("arrives", [answer])


def test_a_service_without_virtual_address_is_its_tasks() -> None:
    services = (*SERVICES[:1], replace(SERVICES[1], vips=()))
    found = traced("api", known=rows(services=services))
    assert texts(found, "name") == [
        "service api in network front, which has no virtual address: its tasks there that are up: "
        "10.0.1.4, 10.0.1.5"
    ]
    assert found.verdict == "arrives"


def test_a_name_of_another_network_is_not_known() -> None:
    found = traced("db")
    assert (found.verdict, found.conclusion) == ("refused", "db is not known to web.1")
    assert refusals(found) == ["db is a name in back only; the source is in front"]


def test_other_names_are_asked_of_the_node_s_servers() -> None:
    found = traced("example.com")
    assert found.verdict == "unknown"
    assert texts(found, "name") == ["example.com is asked of the name servers of node1"]


def test_networks_are_apart() -> None:
    for address, who in (("10.0.2.2", "the virtual address of db"), ("10.0.2.3", "db.1")):
        found = traced(address)
        assert found.verdict == "refused"
        assert (
            f"{address} is {who} in network back, and the source is not in network back" in found.conclusion
        )


def test_the_home_address_of_a_task_is_open_to_nodes_and_to_itself() -> None:
    assert traced("10.128.1.1:80").verdict == "arrives"
    host = TaskTemplate(networks=(NetworkAttachment(target="host"),))
    assert traced("10.128.1.1:80", source=replace(API, networks=()), template=host).verdict == "arrives"
    found = traced("10.128.1.1:80", source=API)
    assert found.verdict == "refused"
    assert found.conclusion.startswith("such addresses are open to nodes alone")


def test_a_task_as_destination_is_reached_in_a_network_that_both_are_in() -> None:
    assert traced("api.2", meant=API2).verdict == "arrives"
    found = traced("db.1", meant=DB)
    assert found.conclusion == "task db.1 is in back; the source shares none with it"


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("10.0.1.1", "is the gateway of network front"),
        ("10.0.1.77", "is an address of network front that nobody has now"),
        ("10.128.9.9", "is an address of the nodes' pool that nobody has now"),
        ("10.128.2.0", "is a node's own address inside the overlay"),
    ],
)
def test_addresses_that_nobody_serves_are_refused(address: str, complaint: str) -> None:
    found = traced(address)
    assert found.verdict == "refused"
    assert complaint in found.conclusion


def test_an_internal_network_has_no_way_out() -> None:
    assert traced("192.0.2.1").verdict == "leaves"
    assert traced("192.0.2.1", source=API).verdict == "leaves"  # it is in a network that has one
    found = traced("192.0.2.1", source=DB)
    assert found.conclusion == (
        "192.0.2.1 is outside of the swarm, and the source is in back only, which is internal"
    )
    found = traced("8080", source=DB)
    assert found.conclusion == "the source is in back only, which is internal: it reaches no port of a node"


def test_nobody_up_behind_a_virtual_address_is_refused_at_once() -> None:
    away = tuple(replace(one, status=replace(one.status, unready=True)) for one in (API, API2))
    found = traced("api", known=rows(tasks=(WEB, *away)))
    assert found.conclusion == "no task of api is up: the connection is refused at once"


def test_tasks_of_a_node_that_is_down_are_left_out() -> None:
    known = rows(nodes=(a_node(1), a_node(2, NodeState.DOWN)))
    found = traced("api", known=known)
    assert texts(found, "backend") == ["the only task of it that is up is api.1 (10.0.1.4)"]
    assert traced("10.0.1.5", known=known).conclusion == "api.2 is on a node that is down"


def test_a_published_port_leads_to_all_of_its_service_s_tasks() -> None:
    found = traced("8080", source=API)
    assert texts(found, "port") == ["8080/tcp on node1 is published by web"]
    assert texts(found, "backend") == ["the only task of it that is up is web.1 (10.128.1.1:80)"]
    assert traced("172.30.0.2:8080", source=API).verdict == "arrives"


def test_a_port_that_nobody_published_says_what_comes_near() -> None:
    assert traced("8080/udp").conclusion.endswith("(web has published 8080/tcp)")
    assert "no service has published 9/tcp on node1" in traced("9").conclusion


def test_a_port_of_mode_host_is_open_where_its_tasks_are() -> None:
    services = (replace(SERVICES[0], ports=(http(mode="host"),)), *SERVICES[1:])
    known = rows(services=services)
    assert traced("172.30.0.1:8080", source=API, known=known).verdict == "arrives"
    assert traced("172.30.0.2:8080", source=API, known=known).conclusion.endswith(
        "(web has it open on the nodes of its tasks only)"
    )


def test_only_clients_that_are_allowed_come_in() -> None:
    services = (replace(SERVICES[0], ports=(http(allow=("172.30.0.0/16",), sticky=True),)), *SERVICES[1:])
    known = rows(services=services)
    found = traced("172.30.0.2:8080", known=known)
    assert "the sender there is 172.30.0.1" in texts(found, "port")
    assert found.verdict == "arrives"
    found = traced("8080", known=known)
    assert found.conclusion == "only 172.30.0.0/16 may connect to 8080/tcp"


def test_routes_on_a_shared_port_are_told_with_who_answers_them() -> None:
    services = (
        replace(SERVICES[0], ports=(http(published=80, host="a.example.com"),)),
        replace(SERVICES[1], ports=(http(8000, published=80, host="a.example.com", path="/api"),)),
        replace(SERVICES[2], ports=(http(published=80, host="db.example.com"),)),
    )
    found = traced("80", known=rows(services=services, tasks=(WEB, API, API2)))
    assert texts(found, "port") == [
        "80/tcp on node1 is shared by HTTP routes: a.example.com/api → api, a.example.com/ → web, "
        "db.example.com/ → db"
    ]
    assert refusals(found) == ["no task of db is up: its requests are answered with 503"]
    assert found.verdict == "arrives"


@pytest.mark.parametrize(
    ("target", "verdict", "text"),
    [
        ("none", "refused", "has the network none"),
        ("host", "arrives", "runs on node1 in that node's own network"),
    ],
)
def test_tasks_outside_of_all_networks(target: str, verdict: str, text: str) -> None:
    template = TaskTemplate(networks=(NetworkAttachment(target=target),))
    found = traced("8080", source=replace(API, networks=()), template=template)
    assert found.verdict == verdict
    assert text in texts(found, "source")[0]


def test_a_task_that_does_not_run_sends_nothing() -> None:
    found = traced("api", source=replace(WEB, status=TaskStatus(state=TaskState.PENDING)))
    assert found.conclusion == "web.1 (web1taskid00) is pending, it has no address to send from"


def test_a_network_that_gave_no_address_yet_is_said() -> None:
    found = traced("example.com", source=replace(WEB, networks=()))
    assert refusals(found) == ["it is to be in front, and has been given no address there"]


def test_what_the_node_says_of_itself_is_set_against_it() -> None:
    good = traced("api", told=Told(snapshot=7, audited=True))
    assert texts(good, "kernel") == [
        "node1 has applied snapshot 7 of the network",
        "node1's rules are as that snapshot wants them",
    ]
    bad = traced("api", told=Told(snapshot=7, audited=True, differences=("set vip lacks 10.0.1.9",)))
    assert refusals(bad) == ["node1: set vip lacks 10.0.1.9"]
    assert bad.conclusion.endswith("but its node is not as it should be, see above")
    assert "cannot be asked" in traced("api", told=Told(error="no answer")).steps[-1].text


@pytest.mark.parametrize(
    ("text", "host", "port", "protocol"),
    [
        ("api", "api", 0, "tcp"),
        ("api:80", "api", 80, "tcp"),
        ("8080", "", 8080, "tcp"),
        (":53/udp", "", 53, "udp"),
        ("10.0.0.1:80", "10.0.0.1", 80, "tcp"),
        ("fd00:0::1", "fd00::1", 0, "tcp"),
        ("[fd00::1]:80/sctp", "fd00::1", 80, "sctp"),
    ],
)
def test_destinations_are_read(text: str, host: str, port: int, protocol: str) -> None:
    found = destination(text)
    assert (found.host, found.port, found.protocol) == (host, port, protocol)


@pytest.mark.parametrize("text", ["", "api:", "api:99999", "api/icmp", "[x]:80", "[fd00::1]80", ":0"])
def test_destinations_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="destination"):
        destination(text)


# -- single containers -----------------------------------------------------------------------------


def test_a_single_container_is_found_by_its_names_and_its_address() -> None:
    place = ContainerNetwork(network_id="front-id", addresses=("10.0.1.30",), aliases=("tool",))
    box = SingleContainer(id="c" * 25, name="box", node_id="n2", networks=(place,), up=True)
    known = rows(tasks=(WEB, API, API2, DB, single(box)))
    for to in ("box", "tool", "box.front", "c" * 12, "10.0.1.30"):
        found = traced(to, known=known)
        assert found.verdict == "arrives", to
        assert "10.0.1.30" in found.conclusion + "".join(step.text for step in found.steps)
    assert "container box in network front" in "".join(one.text for one in traced("box", known=known).steps)
    assert traced("box", source=DB, known=known).verdict == "refused"
    assert traced("10.0.1.30", source=DB, known=known).verdict == "refused"
    assert traced("10.0.1.31", known=known).verdict == "refused", "nobody has that one"
