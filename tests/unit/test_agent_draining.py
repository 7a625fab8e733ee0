"""How long a task that is to stop goes on serving, and what it says meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swarmd.model.spec import TaskTemplate
from swarmd.node.agent.core.draining import Drain

BEGAN = 1000.0


def lasts(
    template: TaskTemplate,
    connections: Callable[[float], int | None] = lambda _: 0,
    *,
    reachable: bool = True,
    patient: bool = True,
) -> tuple[float, list[str]]:
    """(seconds until the stop, what was said), with so many connections after so many seconds."""
    now, said = BEGAN, []
    drain = Drain(template, now, reachable=reachable, patient=patient)
    while (wait := drain.look(now, connections(now - BEGAN))) is not None:
        assert 0 < wait.seconds <= 2
        said += [wait.message] if wait.message else []
        now += wait.seconds
    return now - BEGAN, said


def test_a_task_that_nobody_reaches_stops_at_once() -> None:
    assert lasts(TaskTemplate(drain_timeout=60), reachable=False) == (0, [])


def test_by_default_a_second_without_connections_is_enough_and_two_are_the_most() -> None:
    assert lasts(TaskTemplate()) == (1, [])
    assert lasts(TaskTemplate(), lambda at: int(at < 0.5))[0] == pytest.approx(1.25, abs=0.3)
    assert lasts(TaskTemplate(), lambda _: 7) == (2, [])
    assert lasts(TaskTemplate(), lambda _: None) == (2, [])


def test_a_delay_that_was_asked_for_is_kept_whole_also_by_a_task_that_nobody_reaches() -> None:
    assert lasts(TaskTemplate(drain_delay=10))[0] == 10
    assert lasts(TaskTemplate(drain_delay=10), reachable=False)[0] == 10
    assert lasts(TaskTemplate(drain_delay=0)) == (0, [])


def test_after_the_delay_open_connections_may_end_until_the_timeout() -> None:
    template = TaskTemplate(drain_delay=1, drain_timeout=60)
    assert lasts(template, lambda _: 3)[0] == 61
    assert lasts(template, lambda at: 3 if at < 20 else 0)[0] == pytest.approx(20, abs=2)
    assert lasts(template)[0] == 1


def test_a_task_that_fails_its_clients_anyway_only_waits_for_the_delay() -> None:
    assert lasts(TaskTemplate(drain_timeout=60), lambda _: 3, patient=False) == (2, [])


def test_what_is_waited_for_is_said_when_it_changes_but_not_often() -> None:
    template = TaskTemplate(drain_delay=10, drain_timeout=50)
    said = lasts(template, lambda at: 1 if at > 30 else 5)[1]
    assert said[0] == "draining: no new connections, for 10 s"
    assert said[1] == "draining: 5 connections open, up to 50 s more"
    assert said[2].startswith("draining: 1 connection open, up to 2")
    assert len(said) == 3
    assert len(lasts(template, lambda at: int(at * 10) + 1)[1]) <= 13


def test_a_node_that_cannot_count_connections_says_so_and_waits_for_all_of_the_timeout() -> None:
    seconds, said = lasts(TaskTemplate(drain_delay=0, drain_timeout=30), lambda _: None)
    assert seconds == 30
    assert said == ["draining: open connections cannot be counted on this node, up to 30 s more"]
