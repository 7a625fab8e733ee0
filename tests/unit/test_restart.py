from __future__ import annotations

from typing import Any

import pytest

from swarmd.manager.orchestrator.core.restart import may_restart
from swarmd.model.objects import Task, TaskStatus
from swarmd.model.spec import RestartPolicy
from swarmd.model.states import Availability, NodeState, TaskState
from tests.scripts.sim import START, Sim, a_service, a_swarm


def a_sim(policy: RestartPolicy | None = None, *, nodes: int = 2, **fields: Any) -> Sim:
    sim = a_swarm(nodes=nodes)
    sim.create(a_service(restart=policy or RestartPolicy(), **fields))
    sim.settle()
    return sim


def crash_until_down(sim: Sim, *, limit: int = 20) -> int:
    """Fail the task whenever it runs; answers how often it ran."""
    runs = 0
    while (live := [task for task in sim.live("web") if task.state == TaskState.RUNNING]) and runs < limit:
        runs += 1
        sim.fail(live[0].id)
        sim.advance(10)
    return runs


def test_a_failed_task_is_replaced_in_its_slot_after_the_delay() -> None:
    sim = a_sim()
    (dead,) = sim.live("web")
    sim.fail(dead.id)
    sim.settle()
    (waiting,) = sim.live("web")
    assert sim.task(dead.id).desired_state == TaskState.SHUTDOWN
    assert (waiting.slot, waiting.desired_state, waiting.state) == (1, TaskState.READY, TaskState.READY)
    assert waiting.start_at == START + 5
    sim.advance(4.9)
    assert sim.task(waiting.id).state == TaskState.READY
    sim.advance(0.1)
    assert (sim.task(waiting.id).state, sim.task(waiting.id).desired_state) == (TaskState.RUNNING,) * 2


def test_a_rejected_first_attempt_waits_for_the_delay_too() -> None:
    sim = a_swarm()
    sim.broken.add("v1")
    sim.create(a_service())
    sim.settle()
    assert sim.next_wake() == START + 5
    assert [task.state for task in sim.tasks("web")] == [TaskState.REJECTED, TaskState.REJECTED]
    sim.advance(20)
    assert len(sim.tasks("web")) == 5


def test_a_completed_task_is_replaced_under_any_and_rests_under_on_failure() -> None:
    sim = a_sim()
    sim.report(sim.live("web")[0].id, TaskState.COMPLETE)
    sim.advance(5)
    assert [task.state for task in sim.live("web")] == [TaskState.RUNNING]
    sim = a_sim(RestartPolicy(condition="on-failure"))
    sim.report(sim.live("web")[0].id, TaskState.COMPLETE)
    sim.advance(60)
    (task,) = sim.tasks("web")
    assert (task.state, task.desired_state) == (TaskState.COMPLETE, TaskState.SHUTDOWN)


def test_under_none_nothing_is_replaced_not_even_with_its_node() -> None:
    sim = a_sim(RestartPolicy(condition="none"), replicas=2)
    first, second = sim.live("web")
    sim.fail(first.id)
    sim.set_node(second.node_id, NodeState.DOWN)
    sim.advance(60)
    assert len(sim.tasks("web")) == 2
    assert sim.live("web") == []


def test_two_attempts_mean_three_tasks_and_the_slot_stays_down_until_an_update() -> None:
    sim = a_sim(RestartPolicy(max_attempts=2))
    assert crash_until_down(sim) == 3
    assert [task.desired_state for task in sim.tasks("web")] == [TaskState.SHUTDOWN] * 3
    sim.change_leader()
    sim.advance(3600)
    assert sim.live("web") == []
    sim.update("web", a_service(image="v2", restart=RestartPolicy(max_attempts=2)))
    sim.advance(60)
    assert [(task.spec_version, task.state) for task in sim.live("web")] == [(2, TaskState.RUNNING)]


def test_attempts_older_than_the_window_do_not_count() -> None:
    assert crash_until_down(a_sim(RestartPolicy(max_attempts=2, window=15.0))) == 20
    assert crash_until_down(a_sim(RestartPolicy(max_attempts=2, window=25.0))) == 3


def test_attempts_survive_a_history_limit_of_zero() -> None:
    sim = a_swarm(task_history=0)
    sim.create(a_service(restart=RestartPolicy(max_attempts=3)))
    sim.settle()
    assert crash_until_down(sim) == 4
    sim.advance(3600)
    assert sim.live("web") == []


def test_an_exhausted_slot_stays_down_on_a_global_services_node_that_was_drained() -> None:
    sim = a_sim(RestartPolicy(max_attempts=1), nodes=1, mode="global")
    assert crash_until_down(sim) == 2
    sim.set_availability("n1", Availability.DRAIN)
    sim.settle()
    sim.set_availability("n1", Availability.ACTIVE)
    sim.advance(60)
    assert sim.live("web") == []


def test_a_replacement_waits_for_a_task_that_will_not_stop_for_a_minute_at_most() -> None:
    sim = a_sim()
    (old,) = sim.live("web")
    sim.set_node(old.node_id, NodeState.DISCONNECTED)
    sim.set_availability(old.node_id, Availability.DRAIN)
    sim.settle()
    (new,) = sim.live("web")
    sim.advance(59)
    assert (sim.task(old.id).state, sim.task(new.id).state) == (TaskState.RUNNING, TaskState.READY)
    sim.advance(1)
    assert (sim.task(old.id).state, sim.task(new.id).state) == (TaskState.RUNNING, TaskState.RUNNING)


def test_the_wait_for_the_old_task_ends_when_its_node_is_down() -> None:
    sim = a_sim()
    (old,) = sim.live("web")
    sim.set_node(old.node_id, NodeState.DISCONNECTED)
    sim.set_availability(old.node_id, Availability.DRAIN)
    sim.settle()
    sim.set_node(old.node_id, NodeState.DOWN)
    sim.settle()
    assert sim.elapsed == 0.0
    assert [task.state for task in sim.live("web")] == [TaskState.RUNNING]


def test_a_restart_delay_survives_a_change_of_leader() -> None:
    sim = a_sim()
    sim.fail(sim.live("web")[0].id)
    sim.advance(2)
    sim.change_leader()
    sim.settle()
    assert sim.next_wake() == START + 5
    sim.advance(3)
    assert [task.state for task in sim.live("web")] == [TaskState.RUNNING]


def test_a_task_that_was_told_to_end_is_no_attempt() -> None:
    sim = a_sim(RestartPolicy(max_attempts=1))
    for _ in range(4):
        (task,) = sim.live("web")
        sim.set_availability(task.node_id, Availability.DRAIN)
        sim.settle()
        sim.set_availability(task.node_id, Availability.ACTIVE)
    assert [task.state for task in sim.live("web")] == [TaskState.RUNNING]


@pytest.mark.parametrize(
    ("condition", "state", "allowed"),
    [
        ("any", TaskState.COMPLETE, True),
        ("any", TaskState.FAILED, True),
        ("on-failure", TaskState.COMPLETE, False),
        ("on-failure", TaskState.REJECTED, True),
        ("on-failure", TaskState.ORPHANED, True),
        ("none", TaskState.FAILED, False),
        ("none", TaskState.ORPHANED, False),
    ],
)
def test_the_condition_says_which_ends_are_followed_by_a_new_task(
    condition: str, state: TaskState, allowed: bool
) -> None:
    task = Task(id="t", service_id="s", service_name="s", spec_version=1, status=TaskStatus(state=state))
    assert may_restart(task, [task], RestartPolicy(condition=condition)) is allowed
