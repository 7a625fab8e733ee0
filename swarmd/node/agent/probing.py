"""Probes one container while it lives: health check, readiness, liveness, each at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import race
from swarmd.model.replace import replace
from swarmd.node.agent.core.health import Check, Checks, Condition, Health, Result, judged, pause

Kind = Literal["health", "readiness", "liveness"]
Probe = Callable[[Check], Awaitable[Result]]

PAUSED_POLL = 1.0


class Probing:
    """``was`` is the condition a daemon before this one knew; ``started_at`` the container's, wall clock."""

    def __init__(
        self,
        checks: Checks,
        probe: Probe,
        clock: Clock,
        *,
        started_at: float,
        paused: Callable[[], bool],
        was: Condition | None = None,
    ) -> None:
        self._checks = checks
        self._probe = probe
        self._clock = clock
        self._started_at = started_at
        self._paused = paused
        self.condition = was or Condition(
            health="starting" if checks.health else "", ready=checks.readiness is None
        )
        self.results: dict[Kind, Health] = {}
        self._telling = asyncio.Lock()

    @property
    def tells_when_up(self) -> bool:
        """Whether a probe says when the program is up; otherwise somebody else must."""
        return self._checks.health is not None or self._checks.readiness is not None

    async def run(self, changed: Callable[[Condition], Awaitable[None]]) -> str:
        """Until the container is condemned; answers why.  ``changed`` hears of each new condition."""
        works = [self._follow(kind, check, changed) for kind, check in self._all()]
        if not works:
            await asyncio.Event().wait()
        return await race(*works)

    def _all(self) -> list[tuple[Kind, Check]]:
        kinds: tuple[tuple[Kind, Check | None], ...] = (
            ("health", self._checks.health),
            ("readiness", self._checks.readiness),
            ("liveness", self._checks.liveness),
        )
        return [(kind, check) for kind, check in kinds if check is not None]

    async def _follow(self, kind: Kind, check: Check, changed: Callable[[Condition], Awaitable[None]]) -> str:
        health = self._begin(kind)
        while True:
            await self._clock.sleep(pause(check, health, age=self._age()))
            while self._paused():
                await self._clock.sleep(PAUSED_POLL)
            age = self._age()
            result = await self._probe(check)
            if self._paused():  # it was stopped in the middle of answering
                continue
            health = self.results[kind] = judged(check, health, result, age=age)
            async with self._telling:
                await self._tell(_with(self.condition, kind, health), changed)
            if health.verdict == "unhealthy" and kind != "readiness":
                return _reason(kind, health)

    def _begin(self, kind: Kind) -> Health:
        """A container that was well before the daemon restarted is well until it fails."""
        well = {"health": self.condition.health == "healthy", "readiness": self.condition.ready}
        return Health(verdict="healthy" if well.get(kind) else "starting")

    def _age(self) -> float:
        return self._clock.now() - self._started_at

    async def _tell(self, fresh: Condition, changed: Callable[[Condition], Awaitable[None]]) -> None:
        if fresh != self.condition:
            self.condition = fresh
            await changed(fresh)


def _with(condition: Condition, kind: Kind, health: Health) -> Condition:
    fresh = condition
    if kind == "health":
        fresh = replace(condition, health=health.verdict)
    elif kind == "readiness":
        fresh = replace(condition, ready=health.verdict == "healthy")
    if health.log and health.log[-1].code == 0:
        return replace(fresh, words="")
    # Words that differ with every failure would be a change of the task's status with every probe.
    return replace(fresh, words=health.last_words) if fresh != condition or not condition.words else fresh


def _reason(kind: Kind, health: Health) -> str:
    what = "unhealthy container" if kind == "health" else "liveness probe failed"
    return f"{what}: {health.last_words}" if health.last_words else what
