from __future__ import annotations

import pytest

from swarmd.manager.allocator.core.ports import DYNAMIC, grant_ports
from swarmd.model.objects import PortAllocation, Service
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec
from swarmd.model.states import TaskState
from tests.scripts.sim import Sim, a_service, a_swarm


def ports(sim: Sim, name: str = "web") -> list[int]:
    return [port.published for port in sim.service(name).ports]


def rows(sim: Sim) -> dict[str, str]:
    return {row.id: row.service_name for row in sim.store.all(PortAllocation)}


def publish(*numbers: int, mode: str = "ingress") -> tuple[PortSpec, ...]:
    return tuple(
        PortSpec(target=80 + index, published=number, mode=mode) for index, number in enumerate(numbers)
    )


def test_a_new_task_becomes_pending_with_swarms_message() -> None:
    sim = a_swarm()
    sim.create(a_service())
    sim.step("services")
    sim.step("allocator")
    (task,) = sim.live("web")
    assert (task.state, task.status.message) == (TaskState.PENDING, "pending task scheduling")


def test_an_open_port_gets_the_lowest_free_number_and_a_row() -> None:
    sim = a_swarm()
    sim.create(a_service("a", ports=publish(0, 0)))
    sim.create(a_service("b", ports=publish(0)))
    sim.settle()
    assert (ports(sim, "a"), ports(sim, "b")) == ([30000, 30001], [30002])
    assert rows(sim) == {"tcp/30000": "a", "tcp/30001": "a", "tcp/30002": "b"}


def test_services_planned_together_do_not_get_the_same_port() -> None:
    sim = a_swarm()
    sim.create(a_service("a", ports=publish(0)))
    sim.create(a_service("b", ports=publish(0)))
    changed = [change.row.id for step in sim.plan("allocator") for change in step]  # type: ignore[union-attr]
    assert sorted(name for name in changed if "/" in name) == ["tcp/30000", "tcp/30001"]


def test_udp_and_tcp_have_their_own_numbers() -> None:
    sim = a_swarm()
    sim.create(a_service(ports=(PortSpec(target=53, protocol="udp"), PortSpec(target=53, protocol="tcp"))))
    sim.settle()
    assert ports(sim) == [30000, 30000]
    assert set(rows(sim)) == {"udp/30000", "tcp/30000"}


def test_a_fixed_port_is_taken_as_it_is_and_its_row_made_if_it_is_missing() -> None:
    sim = a_swarm()
    sim.create(a_service(ports=publish(8080)))
    sim.settle()
    assert (ports(sim), rows(sim)) == ([8080], {"tcp/8080": "web"})


def test_host_mode_ports_are_the_nodes_affair() -> None:
    sim = a_swarm()
    sim.create(a_service(ports=publish(8080, mode="host")))
    sim.settle()
    assert (ports(sim), rows(sim)) == ([8080], {})


def test_a_port_that_another_service_has_holds_the_tasks_with_a_reason_until_it_is_free() -> None:
    sim = a_swarm()
    sim.create(a_service("a", ports=publish(80)))
    sim.settle()
    sim.create(a_service("b", ports=publish(80)))
    sim.settle()
    (task,) = sim.live("b")
    assert task.state == TaskState.NEW
    assert task.status.error == "port '80' is already in use by service 'a' (a) as an ingress port"
    sim.remove("a")
    sim.settle()
    (task,) = sim.live("b")
    assert (task.state, task.status.error) == (TaskState.RUNNING, "")
    assert rows(sim) == {"tcp/80": "b"}


def test_an_open_port_keeps_its_number_when_the_service_changes() -> None:
    sim = a_swarm()
    sim.create(a_service("a", ports=publish(0)))
    sim.create(a_service("b", ports=publish(0)))
    sim.settle()
    sim.remove("a")
    sim.settle()
    sim.update("b", a_service("b", image="v2", ports=publish(0)))
    sim.advance(60)
    assert ports(sim, "b") == [30001]


def test_ports_that_are_not_published_any_more_are_freed() -> None:
    sim = a_swarm()
    sim.create(a_service(ports=publish(80, 0)))
    sim.settle()
    sim.update("web", a_service(ports=publish(81)))
    sim.settle()
    assert (ports(sim), rows(sim)) == ([81], {"tcp/81": "web"})


def test_ports_of_a_removed_service_are_freed() -> None:
    sim = a_swarm()
    sim.create(a_service(ports=publish(80)))
    sim.settle()
    sim.remove("web")
    sim.settle()
    assert rows(sim) == {}


def test_an_open_port_avoids_the_fixed_ones_of_its_own_service() -> None:
    sim = a_swarm()
    sim.create(a_service(ports=publish(0, 30000)))
    sim.settle()
    assert ports(sim) == [30001, 30000]


@pytest.mark.parametrize(
    "beside",
    [
        PortSpec(target=80, published=30000, host="app.example.com"),
        PortSpec(target=80, published=30000, host_ip="192.0.2.1"),
        PortSpec(target=80, published=30000, mode="host"),
    ],
)
def test_an_open_port_is_not_one_that_its_own_service_has_in_another_way(beside: PortSpec) -> None:
    sim = a_swarm()
    sim.create(a_service(ports=(beside, *publish(0))))
    sim.settle()
    assert ports(sim) == [30000, 30001]


def test_a_port_of_a_range_is_the_lowest_free_one_there_and_stays() -> None:
    sim = a_swarm()
    sim.create(a_service("a", ports=publish(8001)))
    ranged = PortSpec(target=80, published=8000, published_end=8003)
    sim.create(a_service("b", ports=(ranged, replace(ranged, target=81))))
    sim.settle()
    assert ports(sim, "b") == [8000, 8002]
    assert rows(sim) == {"tcp/8001": "a", "tcp/8000": "b", "tcp/8002": "b"}
    assert sim.service("b").ports[0] == replace(ranged, published_end=0)


def test_a_range_avoids_numbers_that_others_have_on_one_address() -> None:
    service = Service(id="s", spec=a_service("s", ports=(PortSpec(target=80, published=1, published_end=2),)))
    held = PortAllocation(id="tcp/1@192.0.2.1", service_id="other", service_name="other")
    grant = grant_ports(service, {held.id: held})
    assert [port.published for port in grant.ports or ()] == [2]
    both = {held.id: held, "tcp/2": replace(held, id="tcp/2")}
    assert grant_ports(service, both).error == "no tcp port is free between 1 and 2"


def test_ports_on_different_addresses_have_rows_of_their_own() -> None:
    sim = a_swarm()
    for name in ("a", "b"):
        sim.create(a_service(name, ports=(PortSpec(target=80, published=80, host_ip=f"eth-{name}"),)))
    sim.settle()
    assert rows(sim) == {"tcp/80@eth-a": "a", "tcp/80@eth-b": "b"}


def test_when_no_port_is_left_the_tasks_say_so() -> None:
    service = Service(id="s", spec=a_service("s", ports=publish(0)))
    taken = {
        f"tcp/{number}": PortAllocation(id=f"tcp/{number}", service_id="other", service_name="other")
        for number in DYNAMIC
    }
    grant = grant_ports(service, taken)
    assert (grant.ports, grant.changes) == (None, ())
    assert grant.error == "no tcp port is free between 30000 and 32767"


def test_tasks_that_shall_end_are_not_made_pending() -> None:
    sim = a_swarm()
    sim.create(a_service())
    sim.step("services")
    sim.remove("web")
    sim.step("services")
    assert not sim.step("allocator")


def test_services_that_lack_their_routes_on_one_port_at_once_get_them_one_after_the_other() -> None:
    sim = a_swarm()
    for name in "abc":
        route = PortSpec(target=80, published=80, host=f"{name}.example.com")
        sim.create(a_service(name, ports=(route, *publish(0))))
    for _ in "abc":
        changes = [change for step in sim.plan("allocator") for change in step]
        assert not sim.commit(changes).error_kind
        for name, at in sim.wakes["allocator"].items():
            assert at <= sim.now
            sim.dirty["allocator"][name] = None
    assert rows(sim).keys() == {
        "tcp/80", *(f"tcp/80/{name}.example.com/" for name in "abc"), "tcp/30000", "tcp/30001", "tcp/30002",
    }  # fmt: skip
    for name in "abc":
        sim.remove(name)
    sim.settle()
    assert rows(sim) == {}
