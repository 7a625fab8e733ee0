from __future__ import annotations

from collections import Counter

import pytest

from swarmd.manager.scheduler.core.filters import Reason, explain
from swarmd.manager.scheduler.core.places import Want
from swarmd.model.replace import replace
from swarmd.model.spec import ContainerSpec, DeviceSpec, PortSpec, ServiceSpec
from swarmd.model.states import Availability, NodeState, TaskState
from tests.scripts.sim import GIB, START, Sim, a_service, a_swarm


def spread(sim: Sim, name: str = "web") -> dict[str, int]:
    return dict(Counter(task.node_id for task in sim.live(name) if task.node_id))


def errors(sim: Sim, name: str = "web") -> list[str]:
    return [task.status.error for task in sim.live(name) if task.state == TaskState.PENDING]


def test_tasks_of_a_service_spread_evenly() -> None:
    sim = a_swarm(nodes=3)
    sim.create(a_service(replicas=7))
    sim.settle()
    assert spread(sim) == {"n1": 3, "n2": 2, "n3": 2}


def test_the_node_with_the_fewest_tasks_of_the_service_comes_first_then_the_emptiest_then_by_name() -> None:
    sim = a_swarm(nodes=3)
    sim.create(a_service("a", replicas=1))
    sim.settle()
    assert spread(sim, "a") == {"n1": 1}
    sim.create(a_service("b", replicas=1))
    sim.settle()
    assert spread(sim, "b") == {"n2": 1}
    sim.update("a", a_service("a", replicas=2))
    sim.settle()
    assert spread(sim, "a") == {"n1": 1, "n3": 1}


def test_a_placed_task_is_assigned_with_swarms_message() -> None:
    sim = a_swarm(nodes=1)
    sim.create(a_service())
    sim.think()
    (task,) = sim.live("web")
    assert (task.state, task.node_id) == (TaskState.ASSIGNED, "n1")
    assert (task.status.message, task.status.error) == ("scheduler assigned task to node", "")


def test_without_nodes_there_is_no_suitable_one_until_one_comes() -> None:
    sim = a_swarm(nodes=0)
    sim.create(a_service())
    sim.settle()
    assert errors(sim) == ["no suitable node"]
    sim.add_node("n1")
    sim.settle()
    assert [task.state for task in sim.live("web")] == [TaskState.RUNNING]


def test_every_reason_is_counted_and_the_most_frequent_comes_first() -> None:
    sim = a_swarm(nodes=5)
    for name in ("n1", "n2"):
        sim.set_labels(name, {"zone": "a"})
    sim.create(a_service(cpus=100, constraints=("node.labels.zone==a",)))
    sim.set_availability("n5", Availability.DRAIN)
    sim.settle()
    assert errors(sim) == [
        "no suitable node (insufficient resources on 4 nodes; 1 node not available for new tasks)"
    ]
    assert (
        explain(Counter({Reason.RESOURCES: 2, Reason.CONSTRAINTS: 3}), Want(service_id="s", number=1))
        == "no suitable node (scheduling constraints not satisfied on 3 nodes; "
        "insufficient resources on 2 nodes)"
    )


def test_reservations_of_everything_that_still_runs_count() -> None:
    sim = Sim()
    sim.add_node("n1", cpus=2)
    sim.create(a_service("a", cpus=1.5))
    sim.settle()
    sim.create(a_service("b", cpus=1))
    sim.settle()
    assert errors(sim, "b") == ["no suitable node (insufficient resources on 1 node)"]
    sim.remove("a")
    sim.think()
    assert errors(sim, "b") == ["no suitable node (insufficient resources on 1 node)"]
    sim.settle()
    assert [task.state for task in sim.live("b")] == [TaskState.RUNNING]


def test_memory_is_reserved_as_well() -> None:
    sim = a_swarm(nodes=1)
    sim.create(a_service(replicas=3, memory=30 * GIB))
    sim.settle()
    assert spread(sim) == {"n1": 2}
    assert errors(sim) == ["no suitable node (insufficient resources on 1 node)"]


def test_a_host_mode_port_is_there_once_on_each_node() -> None:
    sim = a_swarm(nodes=3)
    port = PortSpec(target=80, published=8080, mode="host")
    sim.create(a_service(replicas=4, ports=(port,)))
    sim.settle()
    assert spread(sim) == {"n1": 1, "n2": 1, "n3": 1}
    assert errors(sim) == ["no suitable node (host-mode port already in use on 3 nodes)"]


def test_host_mode_ports_on_different_addresses_share_a_node() -> None:
    sim = a_swarm(nodes=1)
    port = PortSpec(target=80, published=8080, mode="host", host_ip="192.0.2.1")
    sim.create(a_service("a", ports=(port,)))
    sim.create(a_service("b", ports=(replace(port, host_ip="192.0.2.2"),)))
    sim.settle()
    assert spread(sim, "a") == spread(sim, "b") == {"n1": 1}
    sim.create(a_service("c", ports=(replace(port, host_ip=""),)))
    sim.settle()
    assert errors(sim, "c") == ["no suitable node (host-mode port already in use on 1 node)"]


def test_max_replicas_per_node_is_a_hard_limit() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service(replicas=5, max_replicas=2))
    sim.settle()
    assert spread(sim) == {"n1": 2, "n2": 2}
    assert errors(sim) == ["no suitable node (max replicas per node limit exceed)"]


@pytest.mark.parametrize("state", [NodeState.DOWN, NodeState.UNKNOWN, NodeState.DISCONNECTED])
def test_only_ready_nodes_get_tasks(state: NodeState) -> None:
    sim = a_swarm(nodes=1)
    sim.set_node("n1", state)
    sim.create(a_service())
    sim.settle()
    assert errors(sim) == ["no suitable node (1 node not available for new tasks)"]
    sim.set_node("n1", NodeState.READY)
    sim.settle()
    assert [task.state for task in sim.live("web")] == [TaskState.RUNNING]


def test_a_task_gets_its_place_when_labels_change() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service(constraints=("node.labels.disk==ssd",)))
    sim.settle()
    assert errors(sim) == ["no suitable node (scheduling constraints not satisfied on 2 nodes)"]
    sim.set_labels("n2", {"disk": "ssd"})
    sim.settle()
    assert spread(sim) == {"n2": 1}


def about(sim: Sim, name: str, **fields: object) -> None:
    node = sim.node(name)
    sim.put(replace(node, description=replace(node.description, **fields)))


def test_a_runtime_that_a_node_lacks_keeps_tasks_away_and_is_named() -> None:
    sim = a_swarm(nodes=3)
    sim.create(given(a_service(replicas=2), runtime="crun"))
    sim.settle()
    assert set(errors(sim)) == {"no suitable node (missing runtime crun on 3 nodes)"}
    about(sim, "n2", runtimes=("local", "crun"))
    sim.settle()
    assert spread(sim) == {"n2": 2}


def test_every_node_has_our_own_runtime_also_one_that_does_not_say_so() -> None:
    sim = a_swarm(nodes=2)
    about(sim, "n1", runtimes=("crun",))
    sim.create(given(a_service(replicas=1), runtime="local"))
    sim.settle()
    assert spread(sim) == {"n2": 1}


def test_a_device_that_a_node_does_not_offer_keeps_tasks_away() -> None:
    sim = a_swarm(nodes=2)
    container = ContainerSpec(image="demo:1", devices=(DeviceSpec(source="/dev/kvm"),))
    sim.create(given(a_service(replicas=1), container=container))
    sim.settle()
    assert errors(sim) == ["no suitable node (devices not offered on 2 nodes)"]
    about(sim, "n2", devices=("/dev/fuse", "/dev/kvm"))
    sim.settle()
    assert spread(sim) == {"n2": 1}


def test_a_node_too_old_for_what_a_service_says_gets_none_of_its_tasks() -> None:
    sim = a_swarm(nodes=2)
    for name in ("n1", "n2"):
        about(sim, name, feature_level=1)
    container = ContainerSpec(image="demo:1", privileged=True)
    sim.create(given(a_service(replicas=1), container=container))
    sim.create(a_service("plain", replicas=2))
    sim.settle()
    assert errors(sim) == ["no suitable node (swarmd too old on 2 nodes)"]
    assert spread(sim, "plain") == {"n1": 1, "n2": 1}
    about(sim, "n2", feature_level=2)
    sim.settle()
    assert spread(sim) == {"n2": 1}


def test_another_version_under_the_same_number_is_looked_at_anew() -> None:
    sim = a_swarm(nodes=1)
    sim.create(a_service(replicas=1, cpus=1))
    sim.settle()
    sim.remove("web")
    sim.settle()
    sim.create(a_service(replicas=1, cpus=1000))
    sim.settle()
    assert errors(sim) == ["no suitable node (insufficient resources on 1 node)"]


def test_a_node_that_offers_every_device_names_none() -> None:
    sim = a_swarm(nodes=2)
    about(sim, "n1", devices=("*",))
    container = ContainerSpec(image="demo:1", devices=(DeviceSpec(source="/dev/kvm"),))
    sim.create(given(a_service(replicas=1), container=container))
    sim.settle()
    assert spread(sim) == {"n1": 1}


def given(spec: ServiceSpec, **fields: object) -> ServiceSpec:
    return replace(spec, template=replace(spec.template, **fields))


def test_the_explanation_is_written_only_when_it_changes() -> None:
    sim = a_swarm(nodes=1)
    sim.create(a_service(cpus=100))
    sim.settle()
    (task,) = sim.live("web")
    sim.add_node("n2")
    sim.settle()
    changed = sim.task(task.id)
    assert changed.status.error == "no suitable node (insufficient resources on 2 nodes)"
    sim.set_labels("n1", {"any": "thing"})
    sim.settle()
    assert sim.task(task.id).version == changed.version


def test_a_waiting_group_is_left_alone_by_events_that_cannot_help_it() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service("stuck", constraints=("node.labels.disk==ssd",)))
    sim.create(a_service("web"))
    sim.settle()
    sim.dirty["scheduler"].clear()
    sim.fail(sim.live("web")[0].id)
    assert "stuck.1" not in sim.dirty["scheduler"]


def test_a_node_where_a_version_failed_five_times_comes_last() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service())
    for _ in range(5):
        sim.advance(6)
        (task,) = sim.live("web")
        assert task.node_id == "n1"
        sim.fail(task.id)
    sim.settle()
    assert spread(sim) == {"n2": 1}


def test_failures_are_forgotten_after_five_minutes() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service())
    for _ in range(4):
        sim.advance(100)
        sim.fail(sim.live("web")[0].id)
    sim.advance(100)
    sim.fail(sim.live("web")[0].id)
    sim.settle()
    assert spread(sim) == {"n1": 1}


def test_a_preassigned_task_only_has_to_pass_the_filters_of_its_node() -> None:
    sim = Sim()
    sim.add_node("n1", cpus=1)
    sim.add_node("n2", cpus=4)
    sim.create(a_service(mode="global", cpus=2))
    sim.settle()
    first, second = sim.live("web")
    assert (first.state, first.status.error) == (
        TaskState.PENDING,
        "no suitable node (insufficient resources on 1 node)",
    )
    assert second.state == TaskState.RUNNING
    sim.change_leader()
    sim.settle()
    assert sim.task(first.id).version == first.version


def test_a_new_leaders_scheduler_knows_what_is_taken() -> None:
    sim = Sim()
    sim.add_node("n1", cpus=2)
    sim.create(a_service("a", cpus=2))
    sim.settle()
    sim.change_leader()
    sim.create(a_service("b", cpus=1))
    sim.settle()
    assert errors(sim, "b") == ["no suitable node (insufficient resources on 1 node)"]


def test_a_decision_that_was_not_stored_leaves_no_trace() -> None:
    sim = Sim()
    sim.add_node("n1", cpus=1)
    sim.create(a_service(cpus=1))
    sim.step("services")
    sim.step("allocator")
    group = dict(sim.dirty["scheduler"])
    first = sim.plan("scheduler")
    sim.dirty["scheduler"].update(group)
    assert sim.plan("scheduler") == first
    assert len(first) == 1


def test_a_group_whose_version_row_is_not_there_yet_waits_for_it() -> None:
    sim = a_swarm(nodes=1)
    sim.create(a_service())
    sim.step("services")
    sim.step("allocator")
    version = sim.store.spec_version("web", 1)
    assert version is not None
    sim.state.tables._rows[type(version)].pop(version.id)  # a gap no transaction leaves
    assert not sim.step("scheduler")
    sim.state.tables._rows[type(version)][version.id] = version
    sim.put(version)
    sim.settle()
    assert spread(sim) == {"n1": 1}
    assert sim.now == START
