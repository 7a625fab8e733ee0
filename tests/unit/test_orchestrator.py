from __future__ import annotations

from swarmd.model.replace import replace
from swarmd.model.states import Availability, NodeState, TaskState
from tests.scripts.sim import Sim, a_service, a_swarm


def scaled(sim: Sim, replicas: int) -> None:
    sim.update("web", a_service(replicas=replicas))
    sim.settle()


def slots(sim: Sim) -> list[int]:
    return [task.slot for task in sim.live("web")]


def test_a_service_gets_one_running_task_in_each_of_its_lowest_slots() -> None:
    sim = a_swarm()
    sim.create(a_service(replicas=3))
    sim.settle()
    assert [(t.name, t.state, t.desired_state) for t in sim.tasks("web")] == [
        (f"web.{slot}", TaskState.RUNNING, TaskState.RUNNING) for slot in (1, 2, 3)
    ]


def test_a_new_task_starts_as_new_and_wanted_with_the_services_version() -> None:
    sim = a_swarm()
    sim.create(a_service())
    sim.step("services")
    (task,) = sim.tasks("web")
    assert (task.state, task.desired_state, task.spec_version) == (TaskState.NEW, TaskState.RUNNING, 1)
    assert task.status.message == "created"


def test_scaling_up_fills_the_lowest_free_slots() -> None:
    sim = a_swarm(nodes=1)
    sim.create(a_service(replicas=3))
    sim.settle()
    second = sim.tasks("web")[1]
    sim.put(replace(second, desired_state=TaskState.REMOVE))
    sim.update("web", a_service(replicas=4))
    sim.settle()
    assert slots(sim) == [1, 2, 3, 4]


def test_scaling_down_takes_from_the_fullest_node_first() -> None:
    sim = a_swarm(nodes=1)
    sim.create(a_service(replicas=2))
    sim.settle()
    sim.add_node("n2")
    scaled(sim, 3)
    assert [task.node_id for task in sim.live("web")] == ["n1", "n1", "n2"]
    scaled(sim, 2)
    assert [(task.slot, task.node_id) for task in sim.live("web")] == [(1, "n1"), (3, "n2")]


def test_scaling_down_spares_the_running_ones_then_the_low_slots() -> None:
    sim = a_swarm(nodes=3)
    sim.create(a_service(replicas=3))
    sim.think()
    third = sim.tasks("web")[2]
    sim.report(third.id, TaskState.RUNNING)
    sim.update("web", a_service(replicas=2))
    sim.think()
    assert slots(sim) == [1, 3]


def test_slots_that_are_scaled_away_vanish_with_their_history() -> None:
    sim = a_swarm()
    sim.create(a_service(replicas=2))
    sim.settle()
    sim.fail(sim.tasks("web")[1].id)
    sim.advance(10)
    scaled(sim, 1)
    assert [task.slot for task in sim.tasks("web")] == [1]


def test_tasks_of_a_removed_service_are_stopped_and_deleted() -> None:
    sim = a_swarm()
    sim.create(a_service(replicas=3))
    sim.settle()
    sim.remove("web")
    sim.think()
    assert {task.desired_state for task in sim.tasks("web")} == {TaskState.REMOVE}
    sim.settle()
    assert sim.tasks("web") == []
    assert list(sim.store.spec_versions_of("web")) == []


def test_a_drained_node_is_left_without_delay_and_only_after_the_old_task_has_stopped() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service(replicas=2))
    sim.settle()
    sim.set_availability("n2", Availability.DRAIN)
    sim.think()
    old, new = (task for task in sim.tasks("web") if task.slot == 2)
    assert (old.desired_state, new.desired_state, new.node_id) == (TaskState.SHUTDOWN, TaskState.READY, "n1")
    sim.settle()
    assert sim.elapsed == 0.0
    assert sim.task(new.id).state == TaskState.RUNNING
    assert sim.task(old.id).state == TaskState.SHUTDOWN


def test_tasks_of_a_dead_node_are_replaced_at_once_and_shut_down_when_it_returns() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service(replicas=2))
    sim.settle()
    sim.set_node("n2", NodeState.DOWN)
    sim.settle()
    assert sim.elapsed == 0.0
    assert [(t.node_id, t.state) for t in sim.live("web")] == [("n1", TaskState.RUNNING)] * 2
    lost = next(task for task in sim.tasks("web") if task.node_id == "n2")
    assert (lost.state, lost.desired_state) == (TaskState.RUNNING, TaskState.SHUTDOWN)
    sim.set_node("n2", NodeState.READY)
    sim.settle()
    assert sim.task(lost.id).state == TaskState.SHUTDOWN
    assert len(sim.live("web")) == 2


def test_a_disconnected_or_unknown_node_keeps_its_tasks() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service(replicas=2))
    sim.settle()
    before = [task.id for task in sim.live("web")]
    sim.set_node("n1", NodeState.DISCONNECTED)
    sim.set_node("n2", NodeState.UNKNOWN)
    sim.settle()
    assert [task.id for task in sim.live("web")] == before


def test_a_global_service_has_one_task_on_each_node_also_on_new_ones() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service(mode="global"))
    sim.settle()
    assert [(t.name, t.slot, t.state) for t in sim.tasks("web")] == [
        ("web.n1", 0, TaskState.RUNNING),
        ("web.n2", 0, TaskState.RUNNING),
    ]
    sim.add_node("n3")
    sim.settle()
    assert [task.node_id for task in sim.live("web")] == ["n1", "n2", "n3"]


def test_a_global_service_leaves_a_drained_node_and_comes_back() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service(mode="global"))
    sim.settle()
    sim.set_availability("n1", Availability.DRAIN)
    sim.settle()
    assert [task.node_id for task in sim.live("web")] == ["n2"]
    sim.set_availability("n1", Availability.ACTIVE)
    sim.settle()
    assert [task.node_id for task in sim.live("web")] == ["n1", "n2"]


def test_a_paused_node_keeps_its_global_task_and_gets_no_new_one() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service("a", mode="global"))
    sim.settle()
    sim.set_availability("n1", Availability.PAUSE)
    sim.create(a_service("b", mode="global"))
    sim.settle()
    assert [task.node_id for task in sim.live("a")] == ["n1", "n2"]
    assert [task.node_id for task in sim.live("b")] == ["n2"]


def test_a_global_task_of_a_dead_node_is_recreated_when_it_returns() -> None:
    sim = a_swarm(nodes=2)
    sim.create(a_service(mode="global"))
    sim.settle()
    (first,) = (task for task in sim.live("web") if task.node_id == "n2")
    sim.set_node("n2", NodeState.DOWN)
    sim.settle()
    assert sim.task(first.id).desired_state == TaskState.SHUTDOWN
    assert [task.node_id for task in sim.live("web")] == ["n1"]
    sim.set_node("n2", NodeState.READY)
    sim.settle()
    (second,) = (task for task in sim.live("web") if task.node_id == "n2")
    assert second.id != first.id
    assert second.state == TaskState.RUNNING


def test_a_global_service_runs_only_where_its_constraints_are_met() -> None:
    sim = a_swarm(nodes=2)
    sim.set_labels("n2", {"disk": "ssd"})
    sim.create(a_service(mode="global", constraints=("node.labels.disk == ssd",)))
    sim.settle()
    assert [task.node_id for task in sim.live("web")] == ["n2"]
    sim.set_labels("n2", {})
    sim.settle()
    assert sim.live("web") == []


def test_a_running_task_whose_node_no_longer_meets_constraints_is_rejected_and_replaced() -> None:
    sim = a_swarm(nodes=2)
    sim.set_labels("n1", {"zone": "a"})
    sim.create(a_service(constraints=("node.labels.zone == a",)))
    sim.settle()
    (task,) = sim.live("web")
    sim.set_labels("n1", {"zone": "b"})
    sim.settle()
    rejected = sim.task(task.id)
    assert (rejected.state, rejected.status.error) == (
        TaskState.REJECTED,
        "assigned node no longer meets constraints",
    )
    sim.set_labels("n2", {"zone": "A"})
    sim.advance(5)
    assert [(t.node_id, t.state) for t in sim.live("web")] == [("n2", TaskState.RUNNING)]


def test_a_slot_that_got_two_tasks_keeps_the_one_that_runs() -> None:
    sim = a_swarm()
    sim.create(a_service())
    sim.settle()
    (task,) = sim.live("web")
    sim.put(replace(task, id="double", version=0, status=replace(task.status, state=TaskState.NEW)))
    sim.settle()
    assert [task.id for task in sim.live("web")] == [task.id]


def test_a_nodes_second_copy_is_taken_before_another_nodes_first_even_if_that_does_not_run_yet() -> None:
    sim = a_swarm(nodes=1)
    sim.create(a_service(replicas=2))
    sim.settle()
    sim.add_node("n2")
    sim.update("web", a_service(replicas=3))
    sim.think()
    assert sim.live("web")[2].state == TaskState.ASSIGNED
    sim.update("web", a_service(replicas=2))
    sim.think()
    assert slots(sim) == [1, 3]


def test_a_global_service_does_not_come_to_a_node_nobody_has_heard_of_yet() -> None:
    sim = a_swarm(nodes=2)
    sim.set_node("n2", NodeState.UNKNOWN)
    sim.create(a_service(mode="global"))
    sim.settle()
    assert [task.node_id for task in sim.live("web")] == ["n1"]
