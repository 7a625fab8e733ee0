"""How much the processes under test starve, by what the kernel counted."""

from __future__ import annotations

import os

from tests.nemesis.machine import Work, starvation, work

SECOND = 1_000_000_000


def test_who_never_waited_does_not_starve() -> None:
    assert starvation({}, {1: Work(SECOND, 0)}) == 1.0


def test_the_one_that_waited_most_counts_and_only_since_the_last_look() -> None:
    before = {1: Work(SECOND, 90 * SECOND), 2: Work(SECOND, 0)}
    now = {1: Work(2 * SECOND, 90 * SECOND), 2: Work(2 * SECOND, 3 * SECOND)}
    assert starvation(before, now) == 4.0


def test_a_process_that_is_new_counts_from_its_start() -> None:
    assert starvation({}, {7: Work(SECOND, SECOND)}) == 2.0


def test_who_hardly_ran_says_nothing() -> None:
    assert starvation({}, {1: Work(1000, SECOND)}) == 1.0


def test_nothing_counts_as_more_than_ten_times() -> None:
    assert starvation({}, {1: Work(SECOND, 99 * SECOND)}) == 10.0


def test_this_process_is_found_by_its_command_line() -> None:
    assert work("pytest")[os.getpid()].ran > 0
    assert work("no process has such a command line, but for " + "this\0") == {}
