"""Single containers in networks, at the managers: whose an address is, and until when."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from swarmd.api.core import audit
from swarmd.api.core.audit import Caller
from swarmd.manager.allocator import attachments
from swarmd.manager.allocator.attachments import Attachments
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import Denied, Invalid, NotFound, Refused, Unavailable
from swarmd.model.network import (
    ContainerNetwork,
    NetworkAttachment,
    NetworkSpec,
    SubnetSpec,
    TaskNetwork,
    VirtualIp,
)
from swarmd.model.objects import AddressAllocation, Cluster, Network, Node, Service, SpecVersion, Task
from swarmd.model.replace import replace
from swarmd.model.spec import ContainerSpec, ServiceSpec, TaskTemplate
from swarmd.rpc.v1.agent_pb2 import ReportContainersResponse
from swarmd.store.core.invariants import invariants
from swarmd.store.core.transaction import Change, Delete
from tests.scripts.sim import Sim
from tests.unit.test_control_bed import Bed


def a_network(name: str, *prefixes: str, attachable: bool = True, **fields: Any) -> Network:
    """Its id is ``id-`` and its name; its user chose the prefixes."""
    subnets = tuple(SubnetSpec(subnet=one) for one in prefixes)
    spec = NetworkSpec(name=name, attachable=attachable, subnets=subnets)
    return replace(Network(id=f"id-{name}", name=name, spec=spec, subnets=subnets), **fields)


class Rig(Bed):
    def __init__(self) -> None:
        super().__init__()
        self.attachments = Attachments(self.store)

    async def attach(
        self, container: str, *wanted: str | NetworkAttachment, node: str = "n1", up: bool = True
    ) -> SingleContainer:
        asked = SingleContainer(id=container, name=container.upper(), node_id=node, up=up)
        networks = [NetworkAttachment(target=one) if isinstance(one, str) else one for one in wanted]
        try:
            return await self.attachments.attach(node, asked, networks)
        finally:
            assert invariants(self.state.tables) == []

    def owners(self) -> dict[str, str]:
        return {row.address: row.owner_id for row in self.store.all(AddressAllocation)}

    def row(self, container: str) -> SingleContainer:
        found = self.store.get(SingleContainer, container)
        assert found is not None
        return found


@pytest.fixture
async def rig() -> Rig:
    rig = Rig()
    await rig.put(
        Cluster(id="c"), Node(id="n1", number=1), Node(id="n2", number=2),
        Network(id="ing", name="ingress", ingress=True, subnet="10.128.0.0/10"),
        a_network("blue", "10.5.0.0/29"),
        a_network("red", "10.6.0.0/24", "fd00:6::/64"),
        a_network("private", "10.7.0.0/24", attachable=False),
    )  # fmt: skip
    return rig


async def test_a_container_gets_addresses_and_keeps_them_while_it_changes(rig: Rig) -> None:
    row = await rig.attach("a", "blue", "red")
    assert [one.addresses for one in row.networks] == [("10.5.0.2",), ("10.6.0.2", "fd00:6::2")]
    assert (row.name, row.node_id, row.up) == ("A", "n1", True)
    same = await rig.attach("a", "blue", "red")
    assert same.version == row.version, "nothing is written twice"
    rested = await rig.attach("a", "id-blue", NetworkAttachment(target="red", aliases=("db",)), up=False)
    assert [one.addresses for one in rested.networks] == [one.addresses for one in row.networks]
    assert (rested.networks[1].aliases, rested.up) == (("db",), False)
    assert set(rig.owners().values()) == {"a"}


async def test_what_it_leaves_is_free_and_with_the_last_network_nothing_is_left(rig: Rig) -> None:
    await rig.attach("a", "blue", "red")
    await rig.attach("a", "blue")
    assert rig.owners() == {"10.5.0.2": "a"}
    await rig.attach("a")
    assert rig.owners() == {}
    assert not rig.store.all(SingleContainer)
    await rig.attach("a")  # nothing of it is there: that is no error


async def test_an_address_that_is_asked_for_is_given_to_one_alone(rig: Rig) -> None:
    wanted = NetworkAttachment(target="red", addresses=("10.6.0.9", "fd00:6::9"))
    row = await rig.attach("a", wanted)
    assert row.networks[0].addresses == ("10.6.0.9", "fd00:6::9")
    with pytest.raises(Refused, match=r"10\.6\.0\.9 of network red is still that of container a"):
        await rig.attach("b", wanted, node="n2")
    assert "b" not in rig.owners().values()


async def test_addresses_are_given_round_and_round_and_may_be_used_up(rig: Rig) -> None:
    given = [(await rig.attach(f"c{n}", "blue")).networks[0].addresses[0] for n in range(5)]
    assert given == [f"10.5.0.{n}" for n in range(2, 7)]
    with pytest.raises(Refused, match=r"network blue .* has no free address"):
        await rig.attach("c5", "blue", "red")
    assert len(rig.owners()) == 5, "of all that it wants it has got nothing"


async def test_a_network_without_a_prefix_of_its_users_grows(rig: Rig) -> None:
    small = a_network("green", "10.8.0.0/30")
    await rig.put(replace(small, spec=replace(small.spec, subnets=())))
    await rig.attach("a", "green")
    row = await rig.attach("b", "green")
    grown = rig.store.get(Network, "id-green")
    assert grown is not None
    assert len(grown.subnets) == 2
    assert row.networks[0].addresses[0] not in ("10.8.0.2", "")


async def test_somebody_who_takes_the_address_first_is_no_trouble(rig: Rig) -> None:
    rig.proposer.first.append(lambda: rig.attach("b", "blue"))
    row = await rig.attach("a", "blue")
    assert rig.owners() == {"10.5.0.2": "b", row.networks[0].addresses[0]: "a"}


async def test_the_answer_has_all_that_was_asked_for_whatever_becomes_of_the_row_right_behind_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = rig.store.commit

    async def and_then(changes: Sequence[Change]) -> None:
        monkeypatch.undo()
        await commit(changes)
        await rig.attachments.release("a", "id-red")

    monkeypatch.setattr(rig.store, "commit", and_then)
    row = await rig.attach("a", "blue", "red")
    assert [one.network_id for one in row.networks] == ["id-blue", "id-red"], "as its node asked"
    assert [one.network_id for one in rig.row("a").networks] == ["id-blue"]


@pytest.mark.parametrize(
    ("wanted", "kind", "words"),
    [
        (NetworkAttachment(target="private"), Refused, "network private not manually attachable"),
        (NetworkAttachment(target="ingress"), Refused, "network ingress not manually attachable"),
        (NetworkAttachment(target="nosuch"), NotFound, "network nosuch not found"),
        (NetworkAttachment(target="id-"), Invalid, "network id- is ambiguous"),
        (NetworkAttachment(target="blue", addresses=("10.9.0.1",)), Refused, "cannot be had in network blue"),
        (NetworkAttachment(target="blue", addresses=("10.5.0.1",)), Refused, "cannot be had in network blue"),
        (NetworkAttachment(target="blue", addresses=("fd00::1",)), Invalid, "fd00::1 is not in network blue"),
        (NetworkAttachment(target="blue", addresses=("x",)), Invalid, '"x" in network blue is not an IP'),
        (
            NetworkAttachment(target="red", addresses=("10.6.0.8", "10.6.0.9")),
            Invalid,
            "one address of each family",
        ),
        (NetworkAttachment(target="blue", vip="10.5.0.3"), Invalid, "neither vip nor driver-opt"),
    ],
)
async def test_what_cannot_be_is_refused_in_words(
    rig: Rig, wanted: NetworkAttachment, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await rig.attach("a", wanted)
    assert rig.owners() == {}


async def test_a_network_is_joined_once(rig: Rig) -> None:
    with pytest.raises(Invalid, match="network red is asked for twice"):
        await rig.attach("a", "red", "id-red")


async def test_a_container_is_its_nodes(rig: Rig) -> None:
    await rig.attach("a", "blue")
    with pytest.raises(Denied, match="another node's"):
        await rig.attach("a", "red", node="n2")
    with pytest.raises(Denied, match="not part of this swarm"):
        await rig.attach("b", "red", node="n9")
    assert await rig.attachments.report("n2", []) == ([], [])
    assert rig.owners() == {"10.5.0.2": "a"}, "what another node reports says nothing of it"


async def test_nobodys_addresses_but_its_own_go_whatever_id_a_node_names(rig: Rig) -> None:
    """A node knows the ids of others' tasks and services: they are in what it is told of its networks."""
    rows = [
        AddressAllocation(
            id=f"id-red/10.6.0.{number}", network_id="id-red", address=f"10.6.0.{number}",
            owner_kind=kind, owner_id=owner,
        )
        for number, kind, owner in ((77, "task", "t1"), (78, "service", "s1"))
    ]  # fmt: skip
    spec = ServiceSpec(name="web", template=TaskTemplate(container=ContainerSpec(image="web")))
    vip = VirtualIp(network_id="id-red", addresses=("10.6.0.78",))
    task = Task(
        id="t1", service_id="s1", service_name="web", spec_version=1, node_id="n2",
        networks=(TaskNetwork(network_id="id-red", addresses=("10.6.0.77",)),),
    )  # fmt: skip
    version = SpecVersion(id="s1.1", service_id="s1", number=1, template=spec.template)
    await rig.put(Service(id="s1", spec=spec, spec_version=1, vips=(vip,)), version, task, *rows)
    for victim in ("t1", "s1"):
        for wanted in ((), ("red",), ("blue",)):
            with pytest.raises(Denied, match=f"{victim} is no container of node n1"):
                await rig.attach(victim, *wanted)
    assert rig.owners() == {"10.6.0.77": "t1", "10.6.0.78": "s1"}
    assert not rig.store.all(SingleContainer)


@pytest.mark.parametrize(
    ("asked", "alias", "words"),
    [
        ({"id": ""}, "db", 'container id ""'),
        ({"id": "../a"}, "db", 'container id "../a"'),
        ({"id": "a" * 65}, "db", "container id"),
        ({"name": "\x1b[2J"}, "db", "container name"),
        ({"name": "n" * 256}, "db", "container name"),
        ({}, "a b", 'alias "a b" in network red cannot be a host name'),
        ({}, "", 'alias "" in network red cannot be a host name'),
        ({}, "a" * 254, "cannot be a host name"),
    ],
)
async def test_what_a_node_calls_its_containers_is_looked_at(
    rig: Rig, asked: dict[str, str], alias: str, words: str
) -> None:
    container = replace(SingleContainer(id="a", name="A", node_id="n1", up=True), **asked)
    with pytest.raises(Invalid, match=re.escape(words)):
        await rig.attachments.attach("n1", container, [NetworkAttachment(target="red", aliases=(alias,))])
    many = NetworkAttachment(target="red", aliases=tuple(f"a{number}" for number in range(101)))
    with pytest.raises(Invalid, match="101 aliases"):
        await rig.attach("a", many)
    assert rig.owners() == {}


async def test_a_node_has_so_many_and_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MOST", 2)
    await rig.attach("a", "red")
    await rig.attach("b", "red", up=False)
    with pytest.raises(Refused, match="this node has 2 containers in networks"):
        await rig.attach("c", "red")
    await rig.attach("a", "red", "blue")
    await rig.attach("d", "red", node="n2")
    await rig.attach("b")
    assert {row.id for row in rig.store.all(SingleContainer)} == {"a", "d"}
    await rig.attach("c", "red")


async def test_a_report_lets_go_of_what_is_gone_and_names_what_is_different(rig: Rig) -> None:
    kept, changed = await rig.attach("kept", "blue"), await rig.attach("changed", "blue")
    await rig.attach("gone", "blue", "red")
    unknown = replace(kept, id="unknown")
    reported = [kept, replace(changed, up=False), unknown, SingleContainer(id="none", name="", node_id="n1")]
    assert await rig.attachments.report("n1", reported) == (["changed", "unknown"], ["gone"])
    assert set(rig.owners().values()) == {"kept", "changed"}
    assert await rig.attachments.report("n1", [kept, changed]) == ([], [])


@pytest.mark.parametrize(
    ("outcome", "answer", "recorded"),
    [
        ("ok", {}, False),
        ("ok", {"released": ["c1"]}, True),
        ("ok", {"stale": ["c1"]}, True),
        ("unavailable", {}, True),
        ("denied", {}, True),
    ],
)
def test_a_report_of_containers_is_worth_a_line_if_it_came_to_something(
    outcome: str, answer: dict[str, list[str]], recorded: bool
) -> None:
    found = ReportContainersResponse(**answer)
    caller = Caller(kind="node", role="worker")
    assert audit.is_recorded("Attachments/ReportContainers", outcome, caller, found) is recorded


async def test_one_network_can_be_let_go_of(rig: Rig) -> None:
    await rig.attach("a", "blue", "red")
    await rig.attachments.release("a", "id-blue")
    assert [one.network_id for one in rig.row("a").networks] == ["id-red"]
    await rig.attachments.release("a", "id-red")
    assert (rig.owners(), list(rig.store.all(SingleContainer))) == ({}, [])
    await rig.attachments.release("a")


async def test_managers_of_an_older_level_do_not_write_what_others_would_not_read(rig: Rig) -> None:
    cluster = rig.store.cluster()
    assert cluster is not None
    await rig.put(replace(cluster, feature_level=4))
    with pytest.raises(Unavailable, match="SingleContainer needs managers of feature level 5"):
        await rig.attach("a", "blue")
    assert rig.owners() == {}


def test_a_node_that_is_removed_takes_its_containers_along_and_one_that_is_down_does_not() -> None:
    sim = Sim()
    for name in ("n1", "n2"):
        sim.add_node(name)
    sim.put(Network(id="ing", name="ingress", ingress=True, subnet="10.128.0.0/10"))
    sim.put(a_network("blue", "10.5.0.0/24"))
    for number, node in ((2, "n1"), (3, "n2")):
        place = {"network_id": "id-blue", "address": f"10.5.0.{number}"}
        sim.put(
            SingleContainer(
                id=f"c{number}", name="c", node_id=node, up=True, networks=_in("id-blue", number)
            ),
            AddressAllocation(
                id=f"id-blue/10.5.0.{number}", owner_kind="container", owner_id=f"c{number}", **place
            ),
        )
    sim.settle()
    assert len(sim.store.all(AddressAllocation)) == 2
    node = sim.store.get(Node, "n1")
    assert node is not None
    sim.commit([Delete(Node, "n1", node.version)])
    sim.settle()
    assert [row.id for row in sim.store.all(SingleContainer)] == ["c3"]
    assert [row.owner_id for row in sim.store.all(AddressAllocation)] == ["c3"]
    assert invariants(sim.state.tables) == []


def _in(network_id: str, number: int) -> tuple[ContainerNetwork, ...]:
    return (ContainerNetwork(network_id=network_id, addresses=(f"10.5.0.{number}",)),)
