"""Networks as users make them: what is refused and why, which prefixes they get, who keeps them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from swarmd.api.networks import NetworksServer
from swarmd.control.cluster import check_spec
from swarmd.control.core.events import describe
from swarmd.image.core.selection import Selection
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import Conflict, Invalid, NotFound, Refused, SwarmError
from swarmd.model.network import (
    ContainerNetwork,
    NetworkAttachment,
    NetworkSpec,
    SubnetSpec,
    TaskNetwork,
    VirtualIp,
)
from swarmd.model.objects import (
    AddressAllocation,
    Cluster,
    Network,
    Node,
    NodeDescription,
    NodeStatus,
    Service,
    Task,
)
from swarmd.model.replace import replace
from swarmd.model.spec import ClusterSpec
from swarmd.model.states import NodeState, TaskState
from swarmd.rpc.v1 import networks_pb2 as pb
from swarmd.store.core.tables import Event
from tests.unit.test_control_bed import Bed, a_spec, a_task


class Rig(Bed):
    """A swarm with its ingress network and one node."""

    async def create(self, name: str = "blue", *subnets: str, **fields: Any) -> Network:
        wanted = tuple(SubnetSpec(subnet=one) for one in subnets)
        return await self.networks.create(NetworkSpec(name=name, subnets=wanted, **fields))


@pytest.fixture
async def rig() -> Rig:
    rig = Rig()
    node = Node(
        id="n1",
        number=1,
        description=NodeDescription(hostname="alpha"),
        status=NodeStatus(address="192.0.2.1"),
    )
    ingress = Network(id="ing", name="ingress", ingress=True, subnet="10.128.0.0/10")
    await rig.put(Cluster(id="c"), node, ingress)
    return rig


class Cases:
    """The part of a manager's use cases that the service needs."""

    def __init__(self, rig: Rig) -> None:
        self.networks, self.store = rig.networks, rig.store


def subnets(network: Network) -> list[str]:
    return [one.subnet for one in network.subnets]


# -- prefixes ------------------------------------------------------------------------------------


async def test_networks_without_a_subnet_get_one_after_another_from_the_pool(rig: Rig) -> None:
    assert subnets(await rig.create("a")) == ["10.0.0.0/24"]
    assert subnets(await rig.create("b")) == ["10.0.1.0/24"]
    await rig.networks.remove("a")
    assert subnets(await rig.create("c")) == ["10.0.0.0/24"]


async def test_a_network_with_ipv6_gets_a_prefix_of_each_family(rig: Rig) -> None:
    assert subnets(await rig.create("a", ipv6=True)) == ["10.0.0.0/24", "fd73:7761:726e::/64"]
    assert subnets(await rig.create("b", "fd00:1::/64", ipv6=True)) == ["10.0.1.0/24", "fd00:1::/64"]
    assert subnets(await rig.create("c", ipv6=True))[1] == "fd73:7761:726e:1::/64"


async def test_the_pool_is_the_swarms_setting_and_may_be_used_up(rig: Rig) -> None:
    cluster = rig.store.cluster()
    assert cluster is not None
    await rig.put(replace(cluster, spec=ClusterSpec(address_pools=("172.20.0.0/23",), subnet_size=24)))
    assert subnets(await rig.create("a")) == ["172.20.0.0/24"]
    assert subnets(await rig.create("b")) == ["172.20.1.0/24"]
    with pytest.raises(Refused, match=r"172\.20\.0\.0/23 has no free /24"):
        await rig.create("c")


async def test_no_network_gets_a_prefix_that_a_node_has_its_address_in(rig: Rig) -> None:
    await rig.put(Node(id="n2", number=2, status=NodeStatus(address="10.0.0.7")))
    assert subnets(await rig.create()) == ["10.0.1.0/24"]
    with pytest.raises(Invalid, match=r"holds 10\.0\.0\.7, the address of node n2"):
        await rig.create("b", "10.0.0.0/24")


async def test_two_who_ask_at_once_do_not_get_the_same_prefix(rig: Rig) -> None:
    made = await asyncio.gather(*(rig.create(f"net{n}") for n in range(5)))
    assert len({subnet for row in made for subnet in subnets(row)}) == 5


async def test_two_who_want_the_same_subnet_at_once_do_not_both_get_it(rig: Rig) -> None:
    made = await asyncio.gather(
        rig.create("a", "10.9.0.0/16"), rig.create("b", "10.9.8.0/24"), return_exceptions=True
    )
    assert sorted(type(one) for one in made if isinstance(one, SwarmError)) == [Invalid]


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (NetworkSpec(), "a network needs one"),
        (NetworkSpec(name="-x"), "DNS name component"),
        (NetworkSpec(name="host"), "operation is not permitted on predefined host network"),
        (NetworkSpec(name="x", driver="macvlan"), 'driver "macvlan" is not supported'),
        (NetworkSpec(name="x", options={"com.docker.network.driver.mtu": "100"}), "between 576 and 65535"),
        (NetworkSpec(name="x", options={"vxlan": "7"}), 'option "vxlan" is not known'),
        (NetworkSpec(name="x", subnets=(SubnetSpec(gateway="10.1.0.1"),)), "add --subnet"),
        (NetworkSpec(name="x", subnets=(SubnetSpec(subnet="10.1.0.0"),)), "with its length"),
        (NetworkSpec(name="x", subnets=(SubnetSpec(subnet="10.1.0.9/24"),)), "it should be 10.1.0.0/24"),
        (NetworkSpec(name="x", subnets=(SubnetSpec(subnet="ten/24"),)), "it is no prefix"),
        (NetworkSpec(name="x", subnets=(SubnetSpec(subnet="10.150.0.0/16"),)), "nodes. own addresses"),
        (NetworkSpec(name="x", subnets=(SubnetSpec(subnet="169.254.1.0/24"),)), "way from a container"),
        (NetworkSpec(name="x", subnets=(SubnetSpec(subnet="fd00::/64"),)), "add --ipv6"),
        (NetworkSpec(name="x", subnets=(SubnetSpec(subnet="10.1.0.0/31"),)), "leaves no address"),
        (
            NetworkSpec(name="x", subnets=(SubnetSpec(subnet="10.1.0.0/24", gateway="10.2.0.1"),)),
            "no matching subnet for gateway 10.2.0.1",
        ),
        (
            NetworkSpec(name="x", subnets=(SubnetSpec(subnet="10.1.0.0/24", gateway="one"),)),
            'gateway "one" is not an IP address',
        ),
        (
            NetworkSpec(name="x", subnets=(SubnetSpec(subnet="10.1.0.0/24", ip_range="10.1.0.0/16"),)),
            "no matching subnet for range",
        ),
        (
            NetworkSpec(name="x", subnets=(SubnetSpec(subnet="10.1.0.0/24", reserved={"r": "10.3.0.1"}),)),
            "aux-address 10.3.0.1",
        ),
        (
            NetworkSpec(
                name="x", subnets=(SubnetSpec(subnet="10.1.0.0/16"), SubnetSpec(subnet="10.1.2.0/24"))
            ),
            "overlaps 10.1.0.0/16, of the same network",
        ),
    ],
)
async def test_what_cannot_be_a_network_is_refused_with_the_field(
    rig: Rig, spec: NetworkSpec, words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        await rig.networks.create(spec)
    assert [row.name for row in rig.networks.all()] == ["ingress"]


async def test_a_subnet_that_meets_another_networks_is_refused_naming_it(rig: Rig) -> None:
    await rig.create("blue", "10.5.0.0/24")
    with pytest.raises(Invalid, match=r"10\.5\.0\.0/16 and 10\.5\.0\.0/24, of blue"):
        await rig.create("red", "10.5.0.0/16")


async def test_a_name_is_had_once_whatever_its_case(rig: Rig) -> None:
    await rig.create("blue")
    for name in ("blue", "Blue", "ingress"):
        with pytest.raises(Conflict, match="already exists"):
            await rig.create(name)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ClusterSpec(subnet_size=31), "between 8 and 30"),
        (ClusterSpec(address_pools=("fd00::/48",)), "only IPv4"),
        (ClusterSpec(address_pools=("10.1.0.0/25",)), "smaller than a network"),
        (ClusterSpec(address_pools=("10.160.0.0/16",)), "own addresses"),
        (ClusterSpec(address_pools=("10.1.0.0/16", "10.1.4.0/22")), "overlaps 10.1.0.0/16"),
        (ClusterSpec(address_pools=("everything",)), "default-addr-pool"),
    ],
)
async def test_pools_that_cannot_serve_are_refused(spec: ClusterSpec, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        check_spec(spec)
    check_spec(ClusterSpec(address_pools=("10.20.0.0/16", "172.16.0.0/12"), subnet_size=26))


async def test_what_is_reserved_of_a_pool_is_left_out(rig: Rig) -> None:
    cluster = rig.store.cluster()
    assert cluster is not None
    pool = ClusterSpec(address_pools=("10.0.0.0/8",), subnet_size=9)
    check_spec(pool)
    await rig.put(replace(cluster, spec=pool))
    assert subnets(await rig.create("a")) == ["10.0.0.0/9"]
    with pytest.raises(Refused, match="no free /9"):
        await rig.create("b")


# -- who keeps a network -------------------------------------------------------------------------


async def in_use(rig: Rig, network: Network) -> tuple[Service, Task]:
    spec = a_spec("web")
    template = replace(spec.template, networks=(NetworkAttachment(target=network.id, aliases=("w",)),))
    service = Service(
        id="s1",
        spec=replace(spec, template=template),
        vips=(VirtualIp(network_id=network.id, addresses=("10.0.0.2",)),),
    )
    task = a_task("t1", "n1", networks=(TaskNetwork(network_id=network.id, addresses=("10.0.0.3",)),))
    task = replace(task, status=replace(task.status, address="10.128.1.2"))
    rows = [
        AddressAllocation(
            id=f"{network.id}/{address}",
            network_id=network.id,
            address=address,
            owner_kind=kind,
            owner_id=owner,
        )
        for address, kind, owner in (("10.0.0.2", "service", "s1"), ("10.0.0.3", "task", "t1"))
    ]
    await rig.put(service, task, *rows)
    return service, task


async def test_a_network_stays_while_a_service_or_a_task_needs_it(rig: Rig) -> None:
    network = await rig.create("blue")
    await in_use(rig, network)
    with pytest.raises(Refused, match="network blue is in use by service web"):
        await rig.networks.remove("blue")
    await rig.put(replace(rig.service("web"), spec=a_spec("web")))
    with pytest.raises(Refused, match=r"network blue is in use by task web\.1\.t1"):
        await rig.networks.remove("blue")
    task = rig.store.get(Task, "t1")
    assert task is not None
    await rig.put(replace(task, status=replace(task.status, state=TaskState.SHUTDOWN)))
    await rig.networks.remove("blue")
    with pytest.raises(NotFound, match="network blue not found"):
        rig.networks.get("blue")


async def test_the_ingress_network_stays(rig: Rig) -> None:
    with pytest.raises(Refused, match="published ports go through it"):
        await rig.networks.remove("ingress")


async def test_prune_removes_what_nothing_uses_and_what_the_filters_mean(rig: Rig) -> None:
    await in_use(rig, await rig.create("blue"))
    await rig.create("red", labels={"keep": "1"})
    await rig.create("green")
    assert await rig.networks.prune(Selection(without=("keep",))) == ["green"]
    assert await rig.networks.prune(Selection()) == ["red"]
    assert [row.name for row in rig.networks.all()] == ["blue", "ingress"]


# -- what is shown -------------------------------------------------------------------------------


async def test_a_verbose_look_names_services_tasks_and_peers(rig: Rig) -> None:
    network = await rig.create("blue")
    await in_use(rig, network)
    server = NetworksServer(lambda: Cases(rig))  # type: ignore[arg-type, return-value]
    answer = await server.GetNetwork(pb.GetNetworkRequest(ref=network.id[:5], verbose=True), None)
    view = answer.network
    assert (view.services, view.tasks, view.taken, view.addresses) == (1, 1, 2, 253)
    (service,) = answer.services
    assert (service.name, list(service.addresses), list(service.aliases)) == ("web", ["10.0.0.2"], ["w"])
    (task,) = service.tasks
    assert (task.name, task.hostname, task.node_address) == ("web.1.t1", "alpha", "192.0.2.1")
    assert (list(task.addresses), task.up) == (["10.0.0.3"], True)
    assert [(peer.hostname, peer.address) for peer in answer.peers] == [("alpha", "192.0.2.1")]
    plain = await server.GetNetwork(pb.GetNetworkRequest(ref="blue"), None)
    assert not plain.services


async def test_single_containers_are_shown_and_keep_their_network(rig: Rig) -> None:
    network = await rig.create("blue", attachable=True)
    place = ContainerNetwork(network_id=network.id, addresses=("10.0.0.2",), aliases=("tool",))
    box = SingleContainer(id="c1", name="box", node_id="n1", networks=(place,), up=True)
    held = AddressAllocation(
        id=f"{network.id}/10.0.0.2",
        network_id=network.id,
        address="10.0.0.2",
        owner_kind="container",
        owner_id="c1",
    )
    await rig.put(box, held)
    with pytest.raises(Refused, match='network blue has active endpoints \\(name:"box" id:"c1"\\)'):
        await rig.networks.remove("blue")
    server = NetworksServer(lambda: Cases(rig))  # type: ignore[arg-type, return-value]
    answer = await server.GetNetwork(pb.GetNetworkRequest(ref="blue", verbose=True), None)
    (shown,) = answer.containers
    assert (shown.name, shown.hostname, list(shown.addresses), list(shown.aliases)) == (
        "box", "alpha", ["10.0.0.2"], ["tool"],
    )  # fmt: skip
    assert (shown.up, answer.network.containers, [peer.node_id for peer in answer.peers]) == (True, 1, ["n1"])
    with pytest.raises(Refused, match="container box is on node alpha, which is not down"):
        rig.networks.attached(network, "box")
    with pytest.raises(NotFound, match="container other is not connected to network blue"):
        rig.networks.attached(network, "other")
    node = rig.store.get(Node, "n1")
    assert node is not None
    await rig.put(replace(node, status=replace(node.status, state=NodeState.DOWN)))
    answer = await server.GetNetwork(pb.GetNetworkRequest(ref="blue"), None)
    assert [(one.up, one.state) for one in answer.containers] == [(False, "down")]
    released = await server.ReleaseContainer(
        pb.ReleaseContainerRequest(network="blue", container="box"), None
    )
    assert released.container_id == "c1"
    await rig.networks.remove("blue")


async def test_events_tell_of_networks_and_not_of_the_row_that_keeps_the_order(rig: Rig) -> None:
    watch = rig.store.watch()
    await rig.create("blue", internal=True)
    await rig.networks.remove("blue")
    events: list[Event] = [*(await watch.next())]
    told = [(one.kind, one.action, one.name, one.attributes) for one in map(describe, events) if one]
    about = {"driver": "overlay", "subnets": "10.0.0.0/24", "internal": "true"}
    assert told == [("network", "create", "blue", about), ("network", "remove", "blue", about)]
