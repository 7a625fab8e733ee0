"""What nodes are told of networks: which, of whom, and that nobody is told without a reason."""

from __future__ import annotations

from typing import Any

import pytest

from swarmd.manager.dispatcher.networks import NOTHING, NetworkBoard
from swarmd.model.containers import SingleContainer
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
    Network,
    Node,
    NodeStatus,
    Row,
    Service,
    Task,
    TaskStatus,
)
from swarmd.model.replace import replace
from swarmd.model.states import NodeState, TaskState
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.core.transaction import Delete
from tests.unit.test_control_bed import Bed, a_spec, a_task


class Rig(Bed):
    """A board that follows the store; ``woken``: whom the last change concerned."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = self.store.watch()
        self.board = NetworkBoard(self.store)
        self.woken: set[str] = set()

    async def change(self, *rows: Row) -> set[str]:  # type: ignore[override]
        """Store these as they are now; answers whom that woke."""
        fresh = [
            replace(row, version=stored.version if (stored := self.store.get(type(row), row.id)) else 0)
            for row in rows
        ]
        await self.put(*fresh)
        return await self.told()

    async def told(self) -> set[str]:
        self.woken = set(self.board.react(await self.watch.next()))
        anew = NetworkBoard(self.store)
        for node in ("n1", "n2", "n3"):
            assert self.of(node) == whole(anew, node), "what was followed is what is there"
        return self.woken

    def of(self, node_id: str) -> agent_pb2.NetworkSnapshot:
        return whole(self.board, node_id)


def whole(board: NetworkBoard, node_id: str) -> agent_pb2.NetworkSnapshot:
    snapshot = agent_pb2.NetworkSnapshot()
    for part in board.of_node(node_id).parts:
        snapshot.MergeFrom(part)
    return snapshot


def network(name: str, subnet: str, **fields: Any) -> Network:
    subnets = (SubnetSpec(subnet=subnet),)
    return Network(id=name, name=name, subnets=subnets, spec=NetworkSpec(name=name, **fields))


def service(*targets: str) -> Service:
    spec = a_spec("web")
    networks = tuple(NetworkAttachment(target=one, aliases=(f"{one}-alias",)) for one in targets)
    vips = tuple(VirtualIp(network_id=one, addresses=(f"10.{one[1:]}.0.2",)) for one in targets)
    return Service(id="s1", spec=replace(spec, template=replace(spec.template, networks=networks)), vips=vips)


def running(task_id: str, node_id: str, *networks: str, state: TaskState = TaskState.RUNNING) -> Task:
    addresses = tuple(
        TaskNetwork(network_id=one, addresses=(f"10.{one[1:]}.0.{task_id[1:]}",)) for one in networks
    )
    status = TaskStatus(state=state, address="10.128.1.2" if state is TaskState.RUNNING else "")
    return a_task(task_id, node_id, status=status, networks=addresses)


def rows_of(task: Task) -> list[AddressAllocation]:
    return [
        AddressAllocation(
            id=f"{one.network_id}/{address}",
            network_id=one.network_id,
            address=address,
            owner_kind="task",
            owner_id=task.id,
        )
        for one in task.networks
        for address in one.addresses
    ]


@pytest.fixture
async def rig() -> Rig:
    """Networks b5 and b6, a service in both, a task on n1 in both, one on n2 in b5."""
    rig = Rig()
    nodes = [
        Node(id=f"n{n}", number=n, status=NodeStatus(state=NodeState.READY, address=f"192.0.2.{n}"))
        for n in (1, 2, 3)
    ]
    one, two = running("t11", "n1", "b5", "b6"), running("t12", "n2", "b5")
    mtu = {"com.docker.network.driver.mtu": "1400"}
    await rig.put(
        *nodes, network("b5", "10.5.0.0/24", internal=True, options=mtu), network("b6", "10.6.0.0/24")
    )
    await rig.put(service("b5", "b6"), one, two, *rows_of(one), *rows_of(two))
    await rig.told()
    return rig


async def test_a_node_is_told_of_the_networks_of_its_tasks_with_all_who_are_in_them(rig: Rig) -> None:
    told = rig.of("n1")
    about = [(one.name, list(one.subnets), one.internal, one.mtu) for one in told.networks]
    assert about == [("b5", ["10.5.0.0/24"], True, 1400), ("b6", ["10.6.0.0/24"], False, 0)]
    services = [(one.name, one.network_id, list(one.addresses), list(one.aliases)) for one in told.services]
    assert services == [("web", "b5", ["10.5.0.2"], ["b5-alias"]), ("web", "b6", ["10.6.0.2"], ["b6-alias"])]
    endpoints = [
        (one.name, one.network_id, one.node_id, list(one.addresses), one.up) for one in told.endpoints
    ]
    assert endpoints == [
        ("web.1.t11", "b5", "n1", ["10.5.0.11"], True),
        ("web.1.t12", "b5", "n2", ["10.5.0.12"], True),
        ("web.1.t11", "b6", "n1", ["10.6.0.11"], True),
    ]
    assert [one.name for one in rig.of("n2").networks] == ["b5"]
    assert rig.board.of_node("n3") is NOTHING


async def test_a_task_is_told_of_before_it_is_up_and_after_until_it_has_ended(rig: Rig) -> None:
    task = running("t13", "n2", "b6", state=TaskState.PENDING)
    assert await rig.change(replace(task, node_id=""), *rows_of(task)) == set()
    assert await rig.change(running("t13", "n2", "b6", state=TaskState.ASSIGNED)) == {"n1", "n2"}

    def is_up() -> list[bool]:
        return [one.up for one in rig.of("n1").endpoints if one.task_id == "t13"]

    assert is_up() == [False]
    task = running("t13", "n2", "b6")
    assert await rig.change(task) == {"n1", "n2"}
    assert is_up() == [True]
    assert await rig.change(replace(task, status=replace(task.status, unready=True))) == {"n1", "n2"}
    assert is_up() == [False]
    await rig.change(task)
    assert await rig.change(replace(task, desired_state=TaskState.SHUTDOWN)) == {"n1", "n2"}
    assert is_up() == [False], "it leaves before its stop signal"
    ended = replace(task, desired_state=TaskState.SHUTDOWN, status=TaskStatus(state=TaskState.SHUTDOWN))
    await rig.change(ended)
    assert is_up() == []
    assert [one.name for one in rig.of("n2").networks] == ["b5"]


async def test_a_task_that_lost_its_address_to_another_is_told_of_no_more(rig: Rig) -> None:
    row = rig.store.get(AddressAllocation, "b5/10.5.0.12")
    assert row is not None
    await rig.store.commit([Delete(AddressAllocation, row.id, row.version)])
    assert await rig.told() == {"n1", "n2"}
    assert [one.task_id for one in rig.of("n1").endpoints] == ["t11", "t11"]
    assert not rig.of("n2").networks


async def test_what_changes_nothing_for_a_network_wakes_nobody(rig: Rig) -> None:
    task = rig.store.get(Task, "t12")
    node = rig.store.get(Node, "n2")
    assert task is not None
    assert node is not None
    before = rig.board.of_node("n1")
    assert await rig.change(replace(task, status=replace(task.status, message="still running"))) == set()
    assert await rig.change(replace(node, status=replace(node.status, message="here"))) == set()
    assert await rig.change(a_task("t99", "n3")) == set()
    assert await rig.change(replace(task, status=replace(task.status, unready=True))) == {"n1", "n2"}
    assert rig.board.of_node("n1") is not before


async def test_tasks_of_a_dead_node_are_not_up(rig: Rig) -> None:
    node = rig.store.get(Node, "n2")
    assert node is not None
    dead = replace(node, status=replace(node.status, state=NodeState.DOWN))
    assert await rig.change(dead) == {"n1", "n2"}
    assert [one.up for one in rig.of("n1").endpoints] == [True, False, True]
    assert await rig.change(node) == {"n1", "n2"}
    assert [one.up for one in rig.of("n1").endpoints] == [True, True, True]


async def test_a_network_that_grows_or_goes_is_told_to_its_nodes(rig: Rig) -> None:
    grown = network("b6", "10.6.0.0/24")
    grown = replace(grown, subnets=(*grown.subnets, SubnetSpec(subnet="10.7.0.0/24")))
    assert await rig.change(grown) == {"n1"}
    assert list(rig.of("n1").networks[1].subnets) == ["10.6.0.0/24", "10.7.0.0/24"]
    stored = rig.store.get(Network, "b6")
    assert stored is not None
    await rig.store.commit([Delete(Network, "b6", stored.version)])
    assert await rig.told() == {"n1"}
    assert [one.name for one in rig.of("n1").networks] == ["b5"]


async def test_a_service_whose_names_lead_to_its_tasks_is_told_without_an_address(rig: Rig) -> None:
    assert await rig.change(replace(service("b5", "b6"), vips=())) == {"n1", "n2"}
    assert [list(one.addresses) for one in rig.of("n1").services] == [[], []]


async def test_a_single_container_is_told_with_its_names_to_all_while_it_is_up(rig: Rig) -> None:
    place = ContainerNetwork(network_id="b5", addresses=("10.5.0.30",), aliases=("tool",))
    box = SingleContainer(id="c1", name="box", node_id="n3", networks=(place,), up=True)
    held = AddressAllocation(
        id="b5/10.5.0.30", network_id="b5", address="10.5.0.30", owner_kind="container", owner_id="c1"
    )
    assert await rig.change(held, box) == {"n1", "n2", "n3"}
    assert [one.id for one in rig.of("n3").networks] == ["b5"], "its node is told of the network at once"
    (told,) = [one for one in rig.of("n1").endpoints if one.task_id == "c1"]
    assert (told.name, list(told.aliases), list(told.addresses)) == ("box", ["tool"], ["10.5.0.30"])
    assert (told.node_id, told.service_id, told.up) == ("n3", "", True)
    node = Node(id="n3", number=3, status=NodeStatus(state=NodeState.DOWN, address="192.0.2.3"))
    await rig.change(node)
    assert [one.up for one in rig.of("n1").endpoints if one.task_id == "c1"] == [False]
    assert await rig.change(replace(box, up=False)) == {"n1", "n2", "n3"}
    assert "c1" not in {one.task_id for one in rig.of("n1").endpoints}
    assert not rig.of("n3").networks
