"""Addresses of networks: who gets which, when they are free again, and what a task says that gets none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from swarmd.manager.allocator.core.addresses import Owner, Turn, View
from swarmd.model.network import NetworkAttachment, NetworkSpec, SubnetSpec
from swarmd.model.objects import AddressAllocation, Network
from swarmd.model.replace import replace
from swarmd.model.spec import ClusterSpec, ServiceSpec, UpdateConfig
from swarmd.model.states import NodeState, TaskState
from swarmd.store.core.invariants import invariants
from swarmd.store.core.tables import Outcome
from swarmd.store.core.transaction import Change, Put, Transaction
from tests.scripts.sim import Sim, a_service


def a_network(name: str = "blue", *prefixes: str, is_own: bool = False, **fields: Any) -> Network:
    """Its id is its name.  ``is_own``: its user chose the prefixes."""
    subnets = tuple(SubnetSpec(subnet=one) for one in prefixes or ("10.0.5.0/24",))
    spec = NetworkSpec(name=name, subnets=subnets if is_own else ())
    return replace(Network(id=name, name=name, spec=spec, subnets=subnets), **fields)


def on(*targets: str, name: str = "web", mode: str = "vip", **fields: Any) -> ServiceSpec:
    """A service in these networks."""
    return attached(
        a_service(name, endpoint_mode=mode, **fields), *(NetworkAttachment(target=one) for one in targets)
    )


def attached(spec: ServiceSpec, *attachments: NetworkAttachment) -> ServiceSpec:
    return replace(spec, template=replace(spec.template, networks=attachments))


class Crowd(Sim):
    """For hundreds of tasks: a plan is stored at once, as a leader does; rules are checked at the end."""

    def commit(self, changes: Iterable[Change], *, by_hand: bool = False) -> Outcome:
        outcome = self.state.tables.apply(self.store.index + 1, Transaction(self.now, tuple(changes)))
        for event in outcome.events:
            for name, planner in self.planners.items():
                self.dirty[name].update(dict.fromkeys(planner.touched(event)))
        return outcome

    def step(self, name: str) -> bool:
        steps = self.plan(name)
        outcome = self.commit(change for step in steps for change in step)
        assert not outcome.error_kind, outcome.error
        return bool(steps)


def swarm(*networks: Network, nodes: int = 3, sim: Sim | None = None) -> Sim:
    sim = sim or Sim()
    for number in range(1, nodes + 1):
        sim.add_node(f"n{number}")
    sim.put(Network(id="ing", name="ingress", ingress=True, subnet="10.128.0.0/10"), *networks)
    return sim


def addresses(sim: Sim, name: str = "web") -> list[str]:
    """Of its live tasks, in the order of their slots."""
    return [a for task in sim.live(name) for one in task.networks for a in one.addresses]


def vips(sim: Sim, name: str = "web") -> list[tuple[str, tuple[str, ...]]]:
    return [(vip.network_id, vip.addresses) for vip in sim.service(name).vips]


def rows(sim: Sim) -> dict[str, str]:
    return {row.address: row.owner_id for row in sim.store.all(AddressAllocation)}


def errors(sim: Sim, name: str = "web") -> set[str]:
    return {task.status.error for task in sim.live(name) if task.state == TaskState.NEW}


# -- what is given -------------------------------------------------------------------------------


def test_a_service_gets_a_virtual_address_and_each_task_its_own_but_never_the_gateways() -> None:
    sim = swarm(a_network())
    sim.create(on("blue", replicas=2))
    sim.settle()
    assert vips(sim) == [("blue", ("10.0.5.2",))]
    assert addresses(sim) == ["10.0.5.3", "10.0.5.4"]
    assert rows(sim) == {
        "10.0.5.2": "web",
        **dict(zip(addresses(sim), [t.id for t in sim.live("web")], strict=True)),
    }
    assert all(task.state == TaskState.RUNNING for task in sim.live("web"))


def test_a_network_of_both_families_gives_one_address_of_each() -> None:
    sim = swarm(a_network("blue", "10.0.5.0/24", "fd00:5::/64"))
    sim.create(on("blue"))
    sim.settle()
    assert vips(sim) == [("blue", ("10.0.5.2", "fd00:5::2"))]
    assert addresses(sim) == ["10.0.5.3", "fd00:5::3"]


def test_what_every_node_has_of_its_own_needs_no_address() -> None:
    sim = swarm()
    sim.create(on("host"))
    sim.settle()
    assert (vips(sim), addresses(sim), sim.live("web")[0].state) == ([], [], TaskState.RUNNING)


def test_the_gateway_the_reserved_and_what_is_out_of_the_range_are_given_to_nobody() -> None:
    subnet = SubnetSpec(
        subnet="10.0.5.0/24", gateway="10.0.5.9", ip_range="10.0.5.8/29", reserved={"router": "10.0.5.10"}
    )
    sim = swarm(a_network(subnets=(subnet,), spec=NetworkSpec(name="blue", subnets=(subnet,))))
    sim.create(on("blue", replicas=9, mode="dnsrr"))
    sim.settle()
    assert sorted(addresses(sim)) == sorted(f"10.0.5.{n}" for n in (8, 11, 12, 13, 14, 15))
    assert len([task for task in sim.live("web") if task.state == TaskState.NEW]) == 3


def test_names_of_the_tasks_need_no_virtual_address_and_a_change_to_them_frees_it() -> None:
    sim = swarm(a_network())
    sim.create(on("blue"))
    sim.settle()
    sim.update("web", on("blue", mode="dnsrr"))
    sim.settle()
    assert (vips(sim), "10.0.5.2" in rows(sim)) == ([], False)
    sim.update("web", on("blue"))
    sim.settle()
    assert vips(sim) == [("blue", ("10.0.5.4",))], "one that rests is not given before the others"


def test_a_virtual_address_stays_through_updates_and_networks_come_and_go() -> None:
    sim = swarm(a_network(), a_network("red", "10.0.6.0/24"))
    sim.create(on("blue"))
    sim.settle()
    sim.update("web", on("red", "blue", image="v2"))
    sim.advance(60)
    assert vips(sim) == [("red", ("10.0.6.2",)), ("blue", ("10.0.5.2",))]
    assert [one.network_id for task in sim.live("web") for one in task.networks] == ["red", "blue"]
    sim.update("web", on("red", image="v3"))
    sim.advance(60)
    assert vips(sim) == [("red", ("10.0.6.2",))]
    assert {row.network_id for row in sim.store.all(AddressAllocation)} == {"red"}


def test_addresses_that_are_asked_for_are_had_and_nobody_else_gets_them_by_chance() -> None:
    sim = swarm(a_network())
    wanted = NetworkAttachment(target="blue", vip="10.0.5.3", addresses=("10.0.5.5", "10.0.5.6"))
    sim.create(attached(a_service("db", replicas=0), wanted))
    sim.create(on("blue", replicas=3))
    sim.settle()
    assert vips(sim, "db") == [("blue", ("10.0.5.3",))]
    assert not {"10.0.5.5", "10.0.5.6"} & set(addresses(sim))
    sim.update("db", attached(a_service("db", replicas=3), wanted))
    sim.settle()
    assert addresses(sim, "db")[:2] == ["10.0.5.5", "10.0.5.6"]
    assert addresses(sim, "db")[2] not in (*addresses(sim), "10.0.5.3")


def test_addresses_that_nobody_asks_for_any_more_are_for_those_who_wait() -> None:
    sim = swarm(a_network("blue", "10.0.5.0/29", is_own=True))
    asking = NetworkAttachment(target="blue", addresses=("10.0.5.2", "10.0.5.3"))
    sim.create(attached(a_service("a", replicas=0, endpoint_mode="dnsrr"), asking))
    sim.create(on("blue", name="b", mode="dnsrr", replicas=5))
    sim.settle()
    assert len(addresses(sim, "b")) == 3
    sim.remove("a")
    sim.settle()
    assert (len(addresses(sim, "b")), errors(sim, "b")) == (5, set())


def test_a_slot_with_an_address_of_its_own_keeps_it_through_an_update() -> None:
    sim = swarm(a_network())
    wanted = NetworkAttachment(target="blue", addresses=("10.0.5.77",))
    sim.create(attached(a_service("db"), wanted))
    sim.settle()
    sim.update("db", attached(a_service("db", image="v2"), wanted))
    sim.advance(60)
    (task,) = sim.live("db")
    assert (task.spec_version, task.state, addresses(sim, "db")) == (2, TaskState.RUNNING, ["10.0.5.77"])


def test_an_update_that_starts_first_has_old_and_new_at_once() -> None:
    sim = swarm(a_network())
    spec = on("blue", replicas=2, update=UpdateConfig(order="start-first"))
    sim.create(spec)
    sim.settle()
    before = set(addresses(sim))
    sim.update("web", replace(spec, template=replace(spec.template, force_update=1)))
    sim.advance(60)
    after = set(addresses(sim))
    assert (len(after), after & before) == (2, set())
    assert set(rows(sim)) == {"10.0.5.2", *after}


# -- what is free again --------------------------------------------------------------------------


def test_the_address_of_a_task_that_ended_is_free_and_rests_before_another_gets_it() -> None:
    sim = swarm(a_network())
    sim.create(on("blue"))
    sim.settle()
    (first,) = addresses(sim)
    sim.fail(sim.live("web")[0].id)
    sim.advance(60)
    assert first not in rows(sim)
    assert addresses(sim) == ["10.0.5.4"]


def test_addresses_of_a_removed_service_are_freed_once_its_tasks_have_ended() -> None:
    sim = swarm(a_network())
    sim.create(on("blue", replicas=3))
    sim.settle()
    sim.remove("web")
    sim.think()
    assert len(rows(sim)) == 3, "its tasks still run"
    sim.settle()
    assert rows(sim) == {}


def test_a_task_that_nobody_started_frees_its_address() -> None:
    sim = swarm(a_network(), nodes=0)
    sim.create(on("blue", mode="dnsrr"))
    sim.settle()
    assert len(rows(sim)) == 1
    sim.update("web", on("blue", mode="dnsrr", replicas=0))
    sim.settle()
    assert rows(sim) == {}


def test_what_ran_on_a_dead_node_gives_its_address_back_when_it_was_replaced() -> None:
    sim = swarm(a_network())
    wanted = NetworkAttachment(target="blue", addresses=("10.0.5.77",))
    sim.create(attached(a_service("db"), wanted))
    sim.settle()
    (old,) = sim.live("db")
    sim.set_node(old.node_id, NodeState.DOWN)
    sim.advance(60)
    (new,) = sim.live("db")
    assert (new.id != old.id, new.state, addresses(sim, "db")) == (True, TaskState.RUNNING, ["10.0.5.77"])
    sim.set_node(old.node_id, NodeState.READY)
    sim.advance(60)
    assert rows(sim)["10.0.5.77"] == new.id


# -- what is full --------------------------------------------------------------------------------


def test_three_hundred_tasks_on_a_24_run_as_far_as_it_goes_the_rest_says_why_and_follows() -> None:
    sim = swarm(a_network(is_own=True), sim=Crowd())
    sim.create(on("blue", mode="dnsrr", replicas=300))
    sim.settle()
    states = Counter(task.state for task in sim.live("web"))
    assert states == {TaskState.RUNNING: 253, TaskState.NEW: 47}
    assert len(set(addresses(sim))) == 253
    assert errors(sim) == {
        "network blue (10.0.5.0/24) has no free address: it gives 253. Remove tasks from it, or take a "
        "network with a larger subnet"
    }
    sim.change_leader()
    sim.settle()
    assert Counter(task.state for task in sim.live("web")) == states
    sim.update("web", on("blue", mode="dnsrr", replicas=260))
    sim.advance(60)
    assert len(sim.live("web")) == 260
    sim.create(on("blue", name="other", mode="dnsrr"))
    sim.settle()
    assert len(errors(sim, "other")) == 1
    sim.update("web", on("blue", mode="dnsrr", replicas=200))
    sim.advance(60)
    assert Counter(task.state for task in sim.live("web")) == {TaskState.RUNNING: 200}
    assert (errors(sim), sim.live("other")[0].state) == (set(), TaskState.RUNNING)
    assert not invariants(sim.state.tables)


def test_a_full_network_that_chose_no_subnet_gets_another_from_the_pool_as_large_as_all_it_has() -> None:
    sim = swarm(a_network("blue", "10.0.0.0/29"), a_network("red", "10.0.0.8/29"))
    cluster = sim.store.cluster()
    assert cluster is not None
    sim.put(replace(cluster, spec=replace(cluster.spec, address_pools=("10.0.0.0/24",), subnet_size=29)))
    sim.create(on("blue", mode="dnsrr", replicas=40))
    sim.settle()
    assert Counter(task.state for task in sim.live("web")) == {TaskState.RUNNING: 40}
    blue = sim.store.get(Network, "blue")
    assert blue is not None
    assert [one.subnet for one in blue.subnets] == [
        "10.0.0.0/29", "10.0.0.16/29", "10.0.0.32/28", "10.0.0.64/27",
    ]  # fmt: skip


def test_two_networks_that_are_full_at_once_grow_one_after_the_other() -> None:
    sim = swarm(a_network("blue", "10.0.5.0/28"), a_network("green", "10.0.6.0/28"))
    sim.create(on("blue", "green", replicas=20))
    sim.settle()
    assert Counter(task.state for task in sim.live("web")) == {TaskState.RUNNING: 20}
    assert not invariants(sim.state.tables)


def test_what_is_taken_back_is_given_to_the_next_and_growth_is_stored_all_the_same() -> None:
    network, ingress = a_network("blue", "10.0.5.0/30"), Network(id="ing", name="ingress", ingress=True)
    view = View(
        row=lambda _: None, network=lambda _: network, networks=lambda: (network, ingress), nodes=tuple,
        settings=ClusterSpec(), newest={}, asked={},
    )  # fmt: skip
    turn = Turn(view)
    first = turn.give("blue", Owner("task", "a"))
    assert (first.addresses, turn.take_back(first.changes)) == (("10.0.5.2",), ())
    assert turn.give("blue", Owner("task", "b")).addresses == ("10.0.5.2",)
    grows = turn.give("blue", Owner("task", "c"))
    rest = [change.row for change in turn.take_back(grows.changes) if isinstance(change, Put)]
    assert [type(row) for row in rest] == [Network, Network]
    assert turn.give("blue", Owner("task", "d")).addresses == grows.addresses


def test_a_network_whose_pool_is_used_up_says_that_too() -> None:
    sim = swarm(a_network("blue", "10.0.0.0/29"))
    cluster = sim.store.cluster()
    assert cluster is not None
    sim.put(replace(cluster, spec=replace(cluster.spec, address_pools=("10.0.0.0/28",), subnet_size=29)))
    sim.create(on("blue", mode="dnsrr", replicas=12))
    sim.settle()
    assert Counter(task.state for task in sim.live("web")) == {TaskState.RUNNING: 10, TaskState.NEW: 2}
    assert errors(sim) == {
        "network blue (10.0.0.0/29, 10.0.0.8/29) has no free address: it gives 10, and the swarm's address "
        "pool has no room for it to grow"
    }
    larger = replace(cluster.spec, address_pools=("10.0.0.0/24",), subnet_size=29)
    sim.put(replace(sim.store.cluster() or cluster, spec=larger))
    sim.settle()
    assert Counter(task.state for task in sim.live("web")) == {TaskState.RUNNING: 12}


def test_a_network_that_is_gone_is_named_by_those_who_wait_for_it() -> None:
    sim = swarm()
    sim.create(on("blue"))
    sim.settle()
    assert errors(sim) == {"network blue not found"}
    sim.put(a_network())
    sim.settle()
    assert addresses(sim) == ["10.0.5.3"]


# -- leaders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_leader_may_change_between_any_two_commits(every: int) -> None:
    sim = swarm(a_network(), a_network("red", "10.0.6.0/28", is_own=True))
    commits = 0

    def after_commit() -> None:
        nonlocal commits
        commits += 1
        assert not invariants(sim.state.tables)
        if commits % every == 0:
            sim.change_leader()

    sim.after_commit = after_commit
    sim.create(on("blue", "red", replicas=6))
    sim.create(on("red", name="api", replicas=8))
    sim.settle()
    assert len(rows(sim)) == len(set(rows(sim)))
    sim.update("web", on("blue", image="v2", replicas=3))
    sim.remove("api")
    sim.advance(120)
    held = {address for task in sim.live("web") for one in task.networks for address in one.addresses}
    assert set(rows(sim)) == held | {"10.0.5.2"}, "nothing leaks"


def test_an_address_written_by_somebody_else_meanwhile_makes_the_whole_step_void() -> None:
    sim = swarm(a_network())
    sim.create(on("blue", mode="dnsrr"))
    sim.step("services")
    (step,) = sim.plan("allocator")
    row = AddressAllocation(
        id="blue/10.0.5.2", network_id="blue", address="10.0.5.2", owner_kind="task", owner_id="another"
    )
    sim.put(row)
    assert sim.commit(step).error_kind == "conflict"
    assert sim.live("web")[0].networks == ()


# -- speed ---------------------------------------------------------------------------------------


def test_ten_thousand_addresses_need_no_look_at_those_that_are_taken() -> None:
    network = a_network("blue", "10.0.0.0/18", is_own=True)
    looks = 0

    def row(key: str) -> AddressAllocation | None:
        nonlocal looks
        looks += 1
        return None

    view = View(
        row=row, network=lambda _: network, networks=lambda: (network,), nodes=tuple,
        settings=ClusterSpec(), newest={}, asked={},
    )  # fmt: skip
    turn = Turn(view)
    given = [turn.give("blue", Owner("task", str(number))).addresses for number in range(10_000)]
    assert len(set(given)) == 10_000
    assert looks <= 3 * 10_000
