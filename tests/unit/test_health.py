"""Health checks as Docker has them and two probes more: decided without a clock, followed in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.image.core.config import Healthcheck
from swarmd.model.errors import Invalid
from swarmd.model.health import HealthSpec, ProbeSpec
from swarmd.model.replace import replace
from swarmd.node.agent.core.health import (
    KEPT,
    OUTPUT_LIMIT,
    Check,
    Checks,
    Condition,
    Health,
    Result,
    clipped,
    health_check,
    judged,
    pause,
    probe_check,
    timed_out,
)
from swarmd.node.agent.probing import Probing
from tests.unit.agent_fakes import StillClock

GOOD, BAD = Result(code=0), Result(code=1, output="connection refused\n")


def check(**fields: float) -> Check:
    made = health_check(HealthSpec(test=("CMD", "true")), None)
    assert made is not None
    return replace(made, **fields)


def after(rules: Check, *results: Result, age: float = 1e9) -> Health:
    health = Health()
    for result in results:
        health = judged(rules, health, result, age=age)
    return health


def test_what_neither_service_nor_image_says_is_dockers_default() -> None:
    made = health_check(HealthSpec(test=("CMD", "curl", "localhost")), None)
    assert made == Check(
        probe=ProbeSpec(kind="exec", command=("curl", "localhost")),
        interval=30, timeout=30, failures=3, first=30, start_period=0, start_interval=5,
    )  # fmt: skip


def test_each_value_of_the_service_goes_before_the_images() -> None:
    image = Healthcheck(test=("CMD-SHELL", "exit 1"), interval=2 * 10**9, retries=7, start_period=10**9)
    made = health_check(HealthSpec(interval=4.0), image)
    assert made is not None
    assert made.probe.command == ("/bin/sh", "-c", "exit 1")
    assert (made.interval, made.failures, made.start_period) == (4.0, 7, 1.0)


@pytest.mark.parametrize("spec", [None, HealthSpec(), HealthSpec(test=("NONE",))])
def test_without_a_test_there_is_no_check(spec: HealthSpec | None) -> None:
    assert health_check(spec, None) is None


def test_none_switches_the_images_check_off() -> None:
    assert health_check(HealthSpec(test=("NONE",)), Healthcheck(test=("CMD", "true"))) is None


@pytest.mark.parametrize("test", [("true",), ("CMD",), ("CMD-SHELL", "a", "b")])
def test_a_test_nobody_can_run_is_refused(test: tuple[str, ...]) -> None:
    with pytest.raises(Invalid, match="CMD-SHELL"):
        health_check(HealthSpec(test=test), None)


def test_the_first_probe_comes_after_one_interval_and_the_next_one_after_another() -> None:
    rules = check(interval=7.0, first=7.0)
    assert pause(rules, Health(), age=0.0) == 7.0
    assert pause(rules, after(rules, GOOD), age=9.0) == 7.0


def test_in_the_start_period_the_start_interval_holds_until_it_is_healthy() -> None:
    rules = check(start_period=60.0, start_interval=2.0)
    assert pause(rules, Health(), age=0.0) == 2.0
    assert pause(rules, after(rules, GOOD, age=1.0), age=1.0) == 30.0
    assert pause(rules, Health(), age=60.0) == 30.0


def test_failures_in_a_row_are_a_verdict_and_one_success_forgives_them() -> None:
    rules = check(failures=3)
    assert after(rules, BAD, BAD).verdict == "starting"
    assert after(rules, BAD, BAD, GOOD, BAD, BAD).verdict == "healthy"
    assert after(rules, GOOD, BAD, BAD, BAD).verdict == "unhealthy"
    assert after(rules, BAD, BAD, BAD, GOOD).verdict == "healthy"


def test_failures_in_the_start_period_do_not_count_unless_it_was_healthy() -> None:
    rules = check(start_period=60.0, failures=2)
    assert after(rules, *[BAD] * 9, age=5.0) == Health(log=(BAD,) * KEPT)
    assert after(rules, GOOD, BAD, BAD, age=5.0).verdict == "unhealthy"


def test_output_is_kept_short_and_only_the_last_results_are_kept() -> None:
    long = Result(code=1, output="é" * OUTPUT_LIMIT)
    health = after(check(), *[long] * 9)
    assert len(health.log) == KEPT
    assert all(len(result.output.encode()) <= OUTPUT_LIMIT + 3 for result in health.log)
    assert clipped("abc") == "abc"


@pytest.mark.parametrize(("seconds", "text"), [(30, "30s"), (0.5, "500ms"), (90, "1m30s"), (3600, "1h0m0s")])
def test_a_probe_without_an_answer_says_how_long_it_was_waited_for(seconds: float, text: str) -> None:
    result = timed_out(check(timeout=seconds), began=1.0, ended=2.0)
    assert result.output == f"Health check exceeded timeout ({text})"
    assert result.code == -1


@given(st.lists(st.booleans()), st.integers(1, 5), st.integers(1, 4))
def test_the_verdict_follows_from_the_last_answers_alone(
    answers: list[bool], failures: int, good: int
) -> None:
    rules = replace(probe_check(ProbeSpec(kind="tcp", port=1, failures=failures, successes=good)))
    verdict = after(rules, *[GOOD if answer else BAD for answer in answers]).verdict
    expected = "starting"
    for end in range(1, len(answers) + 1):
        if end >= good and all(answers[end - good : end]):
            expected = "healthy"
        if end >= failures and not any(answers[end - failures : end]):
            expected = "unhealthy"
    assert verdict == expected


class Program:
    """Answers probes from a script, then the same for ever; notes when it was asked."""

    def __init__(self, clock: StillClock, *answers: bool) -> None:
        self._clock = clock
        self._answers = list(answers)
        self.asked: list[float] = []

    async def probe(self, _: Check) -> Result:
        self.asked.append(self._clock.now() - 1000.0)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return GOOD if answer else BAD


class Seen:
    """Collects conditions; ends the run after ``limit`` of them."""

    def __init__(self, limit: int = 1000) -> None:
        self.all: list[Condition] = []
        self._limit = limit
        self.enough = asyncio.Event()

    async def __call__(self, condition: Condition) -> None:
        self.all.append(condition)
        if len(self.all) >= self._limit:
            self.enough.set()
            await asyncio.Event().wait()


def probing(
    clock: StillClock,
    program: Program,
    checks: Checks,
    *,
    was: Condition | None = None,
    paused: Callable[[], bool] = lambda: False,
) -> Probing:
    return Probing(checks, program.probe, clock, started_at=clock.now(), paused=paused, was=was)


async def test_an_unhealthy_container_is_condemned_with_its_last_words() -> None:
    clock, seen = StillClock(), Seen()
    program = Program(clock, True, False)
    reason = await probing(clock, program, Checks(health=check(interval=2.0, first=2.0))).run(seen)
    assert reason == "unhealthy container: connection refused"
    assert program.asked == [2.0, 4.0, 6.0, 8.0]
    assert [condition.health for condition in seen.all] == ["healthy", "healthy", "unhealthy"]
    assert seen.all[-1].words == "connection refused"


async def test_a_failing_liveness_probe_condemns_and_says_so() -> None:
    clock = StillClock()
    rules = probe_check(ProbeSpec(kind="tcp", port=1, delay=3.0, interval=1.0, failures=2))
    program = Program(clock, False)
    assert await probing(clock, program, Checks(liveness=rules)).run(Seen()) == (
        "liveness probe failed: connection refused"
    )
    assert program.asked == [3.0, 4.0]


async def test_readiness_comes_and_goes_and_never_condemns() -> None:
    clock, seen = StillClock(), Seen(limit=5)
    rules = probe_check(ProbeSpec(kind="tcp", port=1, interval=1.0, failures=2, successes=2))
    program = Program(clock, True, True, False, False, True, True)
    watched = probing(clock, program, Checks(readiness=rules))
    assert not watched.condition.is_up
    run = asyncio.ensure_future(watched.run(seen))
    await seen.enough.wait()
    run.cancel()
    assert seen.all == [
        Condition(ready=True),
        Condition(ready=True, words="connection refused"),
        Condition(ready=False, words="connection refused"),
        Condition(ready=False),
        Condition(ready=True),
    ]


async def test_a_paused_container_is_left_in_peace() -> None:
    clock = StillClock()
    program = Program(clock, False)
    until = clock.now() + 50.0
    watched = probing(
        clock,
        program,
        Checks(health=check(interval=2.0, first=2.0, failures=1)),
        paused=lambda: clock.now() < until,
    )
    await watched.run(Seen())
    assert min(program.asked) >= 50.0


async def test_a_restarted_daemon_takes_a_healthy_container_for_healthy_until_it_fails() -> None:
    clock, seen = StillClock(), Seen()
    was = Condition(health="healthy")
    program = Program(clock, True, True, False)
    rules = check(interval=2.0, first=2.0, start_period=600.0)
    await probing(clock, program, Checks(health=rules), was=was).run(seen)
    assert [condition.health for condition in seen.all] == ["healthy", "unhealthy"]


async def test_without_checks_nothing_is_asked_and_nothing_condemned() -> None:
    clock = StillClock()
    program = Program(clock, False)
    watched = probing(clock, program, Checks())
    assert watched.condition.is_up
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watched.run(Seen()), 0.05)
    assert program.asked == []
