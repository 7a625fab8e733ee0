"""Users who ask for things that exclude each other, or share a row, in the same moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from swarmd.manager.allocator.core.ports import grant_ports
from swarmd.manager.orchestrator.services import ServicePlanner
from swarmd.manager.plan import Agenda
from swarmd.model.errors import Conflict, Invalid, NotFound, OutOfSequence, Refused
from swarmd.model.network import NetworkAttachment, NetworkSpec
from swarmd.model.objects import (
    AddressAllocation,
    Cluster,
    Network,
    PortAllocation,
    Service,
    Task,
    TaskStatus,
)
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec, ServiceSpec, UpdateConfig
from swarmd.model.states import TaskState, UpdateState
from swarmd.store.core.transaction import Change, Delete
from swarmd.store.store import Store, StoreState
from tests.unit.test_control_bed import Bed, Interposing, a_spec

CLIENTS, TIMES = 50, 3


class Slow(Interposing):
    """A commit takes a while, in which others read what was before."""

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> object:
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().propose(command, timeout=timeout)


@pytest.fixture
async def bed(monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setattr("tests.unit.test_control_bed.Interposing", Slow)
    bed = Bed()
    await bed.put(Cluster(id="c"), Network(id="ing", name="ingress", ingress=True))
    await bed.networks.create(NetworkSpec(name="blue"))
    return bed


def inside(name: str, *ports: PortSpec) -> ServiceSpec:
    """A service in the network."""
    plain = a_spec(name, ports=ports)
    template = replace(plain.template, networks=(NetworkAttachment(target="blue"),))
    return replace(plain, template=template)


async def create(bed: Bed, spec: ServiceSpec) -> Service:
    service, _ = await bed.services.create(spec, resolve_image=False)
    return service


def port80(**fields: Any) -> PortSpec:
    return replace(PortSpec(target=80, published=80), **fields)


def networks_named(store: Store) -> set[str]:
    return {one.target for row in store.all(Service) for one in row.spec.template.networks}


async def test_a_network_is_not_removed_under_a_service_that_comes_meanwhile(bed: Bed) -> None:
    bed.proposer.first = [lambda: create(bed, inside("web"))]
    with pytest.raises(Refused, match="network blue is in use by service web"):
        await bed.networks.remove("blue")
    assert networks_named(bed.store) == {bed.networks.get("blue").id}


async def test_a_service_does_not_come_into_a_network_that_goes_meanwhile(bed: Bed) -> None:
    bed.proposer.first = [lambda: bed.networks.remove("blue")]
    with pytest.raises(NotFound, match="not found"):
        await create(bed, inside("web"))
    assert not bed.store.all(Service)


async def test_a_service_does_not_move_into_a_network_that_goes_meanwhile(bed: Bed) -> None:
    await create(bed, a_spec("web"))
    bed.proposer.first = [lambda: bed.networks.remove("blue")]
    with pytest.raises(NotFound, match="not found"):
        await bed.change("web", template=inside("web").template)
    assert networks_named(bed.store) == set()


async def test_fifty_who_share_a_network_and_a_port_are_all_served(bed: Bed) -> None:
    async def client(number: int) -> None:
        for time in range(TIMES):
            name = f"s{number}-{time}"
            host = PortSpec(protocol="tcp", target=80, published=80, host=f"{name}.example.com")
            await create(bed, inside(name, host))

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    assert len(bed.store.all(Service)) == CLIENTS * TIMES
    assert len(bed.store.all(PortAllocation)) == CLIENTS * TIMES + 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (port80(), port80(host_ip="192.0.2.1")),
        (port80(host_ip="192.0.2.1"), port80()),
        (port80(host_ip="192.0.2.1"), port80(host_ip="192.0.2.1")),
        (port80(host_ip="192.0.2.1"), port80(mode="host")),
        (port80(mode="host", host_ip="192.0.2.1"), port80()),
        (port80(host="a.example.com"), port80(host_ip="192.0.2.1")),
        (port80(host_ip="192.0.2.1"), port80(path="/api")),
    ],
)
async def test_a_port_that_a_node_could_not_open_for_both_is_one_services(
    bed: Bed, first: PortSpec, second: PortSpec
) -> None:
    bed.proposer.first = [lambda: create(bed, a_spec("quicker", ports=(first,)))]
    with pytest.raises((Conflict, Invalid), match="80"):
        await create(bed, a_spec("slower", ports=(second,)))
    assert {row.spec.name for row in bed.store.all(Service)} == {"quicker"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (port80(host_ip="192.0.2.1"), port80(host_ip="192.0.2.2")),
        (port80(mode="host"), port80(mode="host")),
        (port80(), port80(protocol="udp")),
    ],
)
async def test_a_port_that_a_node_can_open_for_both_is_both_services(
    bed: Bed, first: PortSpec, second: PortSpec
) -> None:
    bed.proposer.first = [lambda: create(bed, a_spec("quicker", ports=(first,)))]
    await create(bed, a_spec("slower", ports=(second,)))
    assert len(bed.store.all(Service)) == 2


async def test_managers_of_level_4_agree_as_they_did(bed: Bed) -> None:
    cluster = bed.store.cluster()
    assert cluster is not None
    await bed.put(replace(cluster, feature_level=4))
    bed.proposer.first = [lambda: create(bed, a_spec("quicker", ports=(port80(),)))]
    await create(bed, a_spec("slower", ports=(port80(host_ip="192.0.2.1"),)))
    older = StoreState(level=4)
    older.restore(bed.store.index, b"".join(bed.state.view()()))
    assert len(older.tables.all(PortAllocation)) == 2


def test_the_allocator_says_who_has_the_port_on_another_address() -> None:
    port = port80(host_ip="192.0.2.1")
    service = Service(id="s", spec=a_spec("web", ports=(port,)))
    row = PortAllocation(id="tcp/80", service_id="o", service_name="other", version=1)
    assert "already in use by service 'other'" in grant_ports(service, {row.id: row}).error
    own = PortAllocation(id=port.key, service_id="s", service_name="web", version=2)
    assert grant_ports(service, {row.id: row, own.id: own}).error == ""


async def test_a_service_is_not_rolled_back_into_a_network_that_was_removed(bed: Bed) -> None:
    await create(bed, inside("web"))
    await bed.change("web", template=a_spec("web").template)
    await bed.networks.remove("blue")
    with pytest.raises(Refused, match=r"web cannot be rolled back, .* removed: network .* not found"):
        await bed.services.rollback("web")
    assert networks_named(bed.store) == set()


async def test_a_network_stays_while_a_task_that_no_update_has_replaced_waits_for_its_address(
    bed: Bed,
) -> None:
    service = await create(bed, inside("web"))
    await bed.put(Task(id="t1", service_id=service.id, service_name="web", spec_version=1, slot=1))
    await bed.change("web", template=a_spec("web").template)
    with pytest.raises(Refused, match=r"network blue is in use by task web\.1\.t1"):
        await bed.networks.remove("blue")


def an_address(network_id: str, owner_kind: str = "task") -> AddressAllocation:
    address = "10.0.0.9"
    return AddressAllocation(
        id=f"{network_id}/{address}",
        network_id=network_id,
        address=address,
        owner_kind=owner_kind,
        owner_id="o",
    )


async def test_nobody_gets_an_address_in_a_network_that_went_meanwhile(bed: Bed) -> None:
    network = bed.networks.get("blue")
    await bed.networks.remove("blue")
    with pytest.raises(OutOfSequence):
        await bed.put(an_address(network.id))
    assert not bed.store.all(AddressAllocation)


async def test_a_network_is_not_removed_under_a_single_container_that_joins_meanwhile(bed: Bed) -> None:
    network = bed.networks.get("blue")
    bed.proposer.first = [lambda: bed.put(an_address(network.id, "container"))]
    with pytest.raises(OutOfSequence):
        await bed.store.commit([Delete(Network, network.id, network.version)])
    assert bed.store.get(Network, network.id) is not None


async def test_an_address_that_a_task_has_left_keeps_no_network(bed: Bed) -> None:
    await bed.put(an_address(bed.networks.get("blue").id))
    await bed.networks.remove("blue")


async def failing(bed: Bed, name: str) -> Service:
    """It was in the network, and the update that took it out of there has just failed."""
    service = await create(bed, inside(name))
    await bed.change(name, template=a_spec(name).template, update=UpdateConfig(failure_action="rollback"))
    task = Task(id=f"{name}1", service_id=service.id, service_name=name, spec_version=2, slot=1)
    died = TaskStatus(state=TaskState.FAILED, at=bed.clock.now(), message="it died")
    await bed.put(replace(task, created_at=bed.clock.now(), status=died))
    return service


def changes(plan: Agenda) -> list[Change]:
    return [one for step in plan.steps for one in step]


async def test_a_network_removed_in_the_moment_of_an_automatic_rollback_pauses_it(bed: Bed) -> None:
    service = await failing(bed, "web")
    planner = ServicePlanner(bed.store, bed.new_id)
    decided = changes(planner.plan([service.id], bed.clock.now()))
    await bed.networks.remove("blue")
    with pytest.raises(OutOfSequence):
        await bed.store.commit(decided)
    await bed.store.commit(changes(planner.plan([service.id], bed.clock.now())))
    assert networks_named(bed.store) == set()
    status = bed.service("web").update_status
    assert status is not None
    assert status.state is UpdateState.PAUSED
    assert "it cannot be rolled back: network" in status.message


async def test_a_network_is_not_removed_when_a_service_has_just_gone_back_to_it(bed: Bed) -> None:
    service = await failing(bed, "web")
    decided = changes(ServicePlanner(bed.store, bed.new_id).plan([service.id], bed.clock.now()))

    async def goes_back() -> None:
        await bed.store.commit(decided)

    bed.proposer.first = [goes_back]
    with pytest.raises(Refused, match="network blue is in use by service web"):
        await bed.networks.remove("blue")


async def test_services_that_go_back_to_one_network_at_once_do_so_one_after_the_other(bed: Bed) -> None:
    services = [(await failing(bed, name)).id for name in ("one", "two")]
    planner = ServicePlanner(bed.store, bed.new_id)
    for _ in services:
        plan = planner.plan(services, bed.clock.now())
        await bed.store.commit(changes(plan))
    states = [row.update_status.state for row in bed.store.all(Service) if row.update_status]
    assert states == [UpdateState.ROLLBACK_STARTED] * 2
