"""Waiting for a service to converge, told step by step what the daemon says."""

from __future__ import annotations

from typing import Any

import pytest

from swarmd.cli.progress import Convergence, Line, Redraw, Step, pipe_text, tty_text
from swarmd.rpc.v1 import control_pb2, types_pb2

PENDING, STARTING, RUNNING, SHUTDOWN, FAILED = 64, 448, 512, 640, 704
NODES = {"n1", "n2"}


def service(replicas: int = 2, mode: str = "replicated", **status: Any) -> types_pb2.Service:
    it = types_pb2.Service(spec=types_pb2.ServiceSpec(replicas=replicas, mode=mode))
    it.spec.update.monitor = 5.0
    if status:
        it.update_status.MergeFrom(types_pb2.UpdateStatus(**status))
    return it


def task(
    slot: int, state: int, desired: int = RUNNING, node: str = "n1", **more: object
) -> control_pb2.TaskView:
    error = str(more.get("error", ""))
    return control_pb2.TaskView(
        task=types_pb2.Task(
            slot=slot,
            node_id=node,
            desired_state=desired,
            status=types_pb2.TaskStatus(state=state, error=error),
        ),
        up_to_date=bool(more.get("up_to_date", True)),
    )


def texts(step: Step) -> list[str]:
    return [text for line in step.lines if (text := pipe_text(line)) is not None]


def both(state: int) -> list[control_pb2.TaskView]:
    return [task(1, state), task(2, state)]


def test_all_tasks_running_for_the_monitor_time_is_converged() -> None:
    course = Convergence("web")
    first = course.step(service(), [], NODES, 0.0)
    assert texts(first) == [
        "overall progress: 0 out of 2 tasks",
        "1/2:  ",
        "2/2:  ",
        "overall progress: 0 out of 2 tasks",
    ]
    assert texts(course.step(service(), [task(1, RUNNING), task(2, STARTING)], NODES, 1.0)) == [
        "overall progress: 1 out of 2 tasks"
    ]
    assert texts(course.step(service(), both(RUNNING), NODES, 2.0)) == [
        "overall progress: 2 out of 2 tasks",
        "verify: Waiting 5 seconds to verify that tasks are stable...",
    ]
    assert texts(course.step(service(), both(RUNNING), NODES, 3.2)) == [
        "verify: Waiting 4 seconds to verify that tasks are stable..."
    ]
    last = course.step(service(), both(RUNNING), NODES, 7.0)
    assert (texts(last), last.done, last.failure) == (["verify: Service web converged"], True, "")


def test_a_task_that_fails_while_verifying_starts_the_wait_again() -> None:
    course = Convergence("web")
    course.step(service(), both(RUNNING), NODES, 0.0)
    failed = course.step(service(), [task(1, RUNNING), task(2, FAILED, error="exit 1")], NODES, 3.0)
    assert texts(failed) == [
        "2/2: exit 1",
        "overall progress: 1 out of 2 tasks",
        "verify: Detected task failure",
    ]
    course.step(service(), both(RUNNING), NODES, 4.0)
    assert not course.step(service(), both(RUNNING), NODES, 8.0).done
    assert course.step(service(), both(RUNNING), NODES, 9.0).done


def test_the_state_and_then_the_error_of_a_waiting_task_is_shown() -> None:
    course = Convergence("web")
    step = course.step(service(1), [task(3, PENDING, node="")], NODES, 0.0)
    assert Line("1/1", "pending  ", 2 / 8) in step.lines
    error = "no suitable node\n(insufficient resources on 3 nodes)" + "x" * 50
    step = course.step(service(1), [task(3, PENDING, node="", error=error)], NODES, 0.2)
    (line,) = (line for line in step.lines if line.key == "1/1")
    assert line.text.startswith("no suitable node (insufficient")
    assert (len(line.text), line.text[-1]) == (75, "…")


def test_old_tasks_and_tasks_on_dead_nodes_do_not_count() -> None:
    course = Convergence("web")
    tasks = [task(1, RUNNING, up_to_date=False), task(2, RUNNING, node="dead")]
    assert texts(course.step(service(), tasks, NODES, 0.0))[-1] == "overall progress: 0 out of 2 tasks"


def test_of_two_tasks_in_a_slot_the_one_meant_to_run_counts() -> None:
    course = Convergence("web")
    tasks = [task(1, RUNNING, desired=SHUTDOWN), task(1, STARTING)]
    assert texts(course.step(service(1), tasks, NODES, 0.0))[-1] == "overall progress: 0 out of 1 tasks"


def test_a_paused_update_is_a_failure() -> None:
    step = Convergence("web").step(service(state="paused", message="because"), [], NODES, 0.0)
    assert step.failure == "service update paused: because"
    step = Convergence("web").step(service(state="rollback_paused", message="why"), [], NODES, 0.0)
    assert step.failure == "service rollback paused: why"


def test_an_update_known_before_says_nothing_about_this_one() -> None:
    old = service(1, state="paused", started_at=7.0, message="old")
    assert not Convergence("web", stale=7.0).step(old, [], NODES, 0.0).failure
    assert Convergence("web", stale=6.0).step(old, [], NODES, 0.0).failure


def test_an_update_that_completed_meanwhile_is_the_end() -> None:
    assert Convergence("web").step(service(state="completed"), [], NODES, 0.0).done


def test_a_rollback_is_announced_counted_and_confirmed() -> None:
    course = Convergence("web")
    under_way = service(2, state="rollback_started", message="update rolled back due to failure")
    first = texts(course.step(under_way, both(RUNNING), NODES, 0.0))
    assert first[0] == "rollback: update rolled back due to failure"
    assert "overall progress: rolling back update: 2 out of 2 tasks" in first
    course = Convergence("web")
    done = service(2, state="rollback_completed", message="rollback completed")
    course.step(done, both(RUNNING), NODES, 0.0)
    last = course.step(done, both(RUNNING), NODES, 5.0)
    assert texts(last) == ["verify: Service web converged", "rollback: rollback completed"]


def test_a_global_service_waits_for_its_tasks_and_counts_nodes() -> None:
    course = Convergence("agent")
    it = service(mode="global")
    assert texts(course.step(it, [], NODES, 0.0)) == ["overall progress: waiting for new tasks"]
    tasks = [task(0, RUNNING, node="n1"), task(0, STARTING, node="n2")]
    step = course.step(it, tasks, NODES, 0.2)
    assert texts(step) == ["overall progress: 0 out of 2 tasks", "overall progress: 1 out of 2 tasks"]
    assert [line.key for line in step.lines if line.portion is not None] == ["n1", "n2"]


@pytest.mark.parametrize(("replicas", "bars"), [(20, 20), (21, 0)])
def test_more_than_twenty_tasks_have_no_bars(replicas: int, bars: int) -> None:
    tasks = [task(slot, STARTING) for slot in range(1, replicas + 1)]
    step = Convergence("web").step(service(replicas), tasks, NODES, 0.0)
    assert sum(line.portion is not None for line in step.lines) == bars


def test_no_replicas_converge_at_once() -> None:
    course = Convergence("web")
    course.step(service(0), [], NODES, 0.0)
    assert course.step(service(0), [], NODES, 5.0).done


def test_a_bar_needs_a_wide_terminal() -> None:
    line = Line("1/3", "pending  ", 0.5)
    assert tty_text(line, 80) == "1/3: pending   "
    assert tty_text(line, 120) == f"1/3: pending   [{'=' * 25}>{' ' * 25}] "
    assert pipe_text(line) is None


def test_a_terminal_line_is_redrawn_in_its_place() -> None:
    redraw = Redraw()
    assert redraw.draw("a", "one") == "\n\x1b[1A\x1b[2K\rone\r\x1b[1B"
    assert redraw.draw("b", "two") == "\n\x1b[1A\x1b[2K\rtwo\r\x1b[1B"
    assert redraw.draw("a", "three") == "\x1b[2A\x1b[2K\rthree\r\x1b[2B"
