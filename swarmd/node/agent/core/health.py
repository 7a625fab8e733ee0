"""Decide when a container is probed and what the answers mean.  Told results and ``now``; knows no clock.

One machine serves three purposes.  A *health check* has Docker's rules: the first probe after one interval,
failures in the start period do not count while nothing has succeeded yet, ``failures`` in a row are a
verdict.  *Readiness* and *liveness* are the same with a delay instead of a start period; readiness may come
back, and wants ``successes`` in a row for that.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from swarmd.image.core.config import Healthcheck
from swarmd.model.errors import Invalid
from swarmd.model.health import HealthSpec, ProbeSpec
from swarmd.model.replace import replace
from swarmd.model.spec import ContainerSpec

INTERVAL, TIMEOUT, RETRIES, START_INTERVAL = 30.0, 30.0, 3, 5.0
PROBE_INTERVAL, PROBE_TIMEOUT, PROBE_FAILURES = 10.0, 1.0, 3
OUTPUT_LIMIT = 4096
"""Bytes of a probe's output that are kept."""
KEPT = 5
"""Results that are remembered."""
TIMED_OUT = -1

Verdict = Literal["starting", "healthy", "unhealthy"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What to do (``exec`` argv, ``http`` or ``tcp``), and the rules for its answers; all of it is set."""

    probe: ProbeSpec
    interval: float
    timeout: float
    failures: int
    successes: int = 1
    first: float
    start_period: float = 0.0
    start_interval: float = START_INTERVAL


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One probe: ``began`` and ``ended`` by the wall clock; ``code`` 0 is success, TIMED_OUT no answer."""

    code: int
    output: str = ""
    began: float = 0.0
    ended: float = 0.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Where a check stands.  ``streak`` counts failures in a row, ``good`` successes."""

    verdict: Verdict = "starting"
    streak: int = 0
    good: int = 0
    log: tuple[Result, ...] = ()

    @property
    def last_words(self) -> str:
        """The output of the last failure, on one line."""
        failed = [result for result in self.log if result.code]
        return " ".join(failed[-1].output.split()) if failed else ""


class Checks(msgspec.Struct, frozen=True):
    """What of a container is probed."""

    health: Check | None = None
    readiness: Check | None = None
    liveness: Check | None = None


class Condition(msgspec.Struct, frozen=True):
    """How a container is.  ``health`` is "" without a health check; ``words`` are of the last failure."""

    health: str = ""
    ready: bool = True
    words: str = ""

    @property
    def is_up(self) -> bool:
        return self.ready and self.health in ("", "healthy")

    @property
    def waits_for(self) -> str:
        """What keeps it from being up, with the last answer."""
        what = "its health check" if self.ready else "its readiness probe"
        return f"waiting for {what} to succeed" + (f": {self.words}" if self.words else "")


def health_check(wanted: HealthSpec | None, image: Healthcheck | None) -> Check | None:
    """Docker's merge: each value of the service's, else the image's, else the default; None: no check.

    Raises Invalid for a test nobody can run.  Source: moby daemon/health.go.
    """
    spec = wanted or HealthSpec()
    base = image or Healthcheck()
    test = spec.test or tuple(base.test or ())
    if not test or test[0] == "NONE":
        return None
    interval = spec.interval or base.interval / 1e9 or INTERVAL
    return Check(
        probe=ProbeSpec(kind="exec", command=_command(test)),
        interval=interval,
        timeout=spec.timeout or base.timeout / 1e9 or TIMEOUT,
        failures=spec.retries or base.retries or RETRIES,
        first=interval,
        start_period=spec.start_period or base.start_period / 1e9,
        start_interval=spec.start_interval or base.start_interval / 1e9 or START_INTERVAL,
    )


ANNOTATION = "org.swarmd.probes"
"""Where a container's own config keeps what was decided when it was made: its image's name may move."""


def annotation(spec: ContainerSpec, image: Healthcheck | None) -> dict[str, str]:
    """Its checks, as a container remembers them; empty without any."""
    checks = Checks(
        health_check(spec.health, image),
        probe_check(spec.readiness) if spec.readiness else None,
        probe_check(spec.liveness) if spec.liveness else None,
    )
    return {} if checks == Checks() else {ANNOTATION: msgspec.json.encode(checks).decode()}


def from_annotation(text: str) -> Checks:
    """The checks of a container made before; none for an empty text."""
    return msgspec.json.decode(text, type=Checks) if text else Checks()


def _command(test: tuple[str, ...]) -> tuple[str, ...]:
    if test[0] == "CMD" and len(test) > 1:
        return test[1:]
    if test[0] == "CMD-SHELL" and len(test) == 2:
        return ("/bin/sh", "-c", test[1])
    raise Invalid(f'health check {list(test)!r}: it must begin with "CMD", "CMD-SHELL" or be ["NONE"]')


def probe_check(probe: ProbeSpec) -> Check:
    """Readiness or liveness, with the defaults for what is not set."""
    return Check(
        probe=probe,
        interval=probe.interval or PROBE_INTERVAL,
        timeout=probe.timeout or PROBE_TIMEOUT,
        failures=probe.failures or PROBE_FAILURES,
        successes=probe.successes or 1,
        first=probe.delay,
    )


def pause(check: Check, health: Health, *, age: float) -> float:
    """Seconds from the end of a probe (or the start of the container) to the next one.

    ``age`` is the container's, in seconds.
    """
    if _starting(check, health, age):
        return check.start_interval
    return check.interval if health.log else check.first


def judged(check: Check, health: Health, result: Result, *, age: float) -> Health:
    """The state after one more result.  ``age`` is the container's when the probe began."""
    kept = replace(result, output=clipped(result.output))
    log = (*health.log, kept)[-KEPT:]
    if result.code == 0:
        good = health.good + 1
        verdict = "healthy" if good >= check.successes else health.verdict
        return Health(verdict=verdict, streak=0, good=good, log=log)
    if _starting(check, health, age):
        return replace(health, good=0, log=log)
    streak = health.streak + 1
    verdict = "unhealthy" if streak >= check.failures else health.verdict
    return Health(verdict=verdict, streak=streak, good=0, log=log)


def timed_out(check: Check, *, began: float, ended: float) -> Result:
    """No answer in time, in Docker's words."""
    text = f"Health check exceeded timeout ({_duration(check.timeout)})"
    return Result(code=TIMED_OUT, output=text, began=began, ended=ended)


def clipped(output: str) -> str:
    """At most OUTPUT_LIMIT bytes of it, cut between characters."""
    data = output.encode()
    if len(data) <= OUTPUT_LIMIT:
        return output
    return data[:OUTPUT_LIMIT].decode(errors="ignore") + "..."


def _starting(check: Check, health: Health, age: float) -> bool:
    return health.verdict == "starting" and age < check.start_period


def _duration(seconds: float) -> str:
    """As Go prints durations: 30s, 1m30s, 500ms."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
