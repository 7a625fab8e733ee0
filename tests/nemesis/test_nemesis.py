"""Real daemons under real faults: no promise is broken.  Ten minutes of faults in a build, one otherwise."""

from __future__ import annotations

import os

import pytest

from tests.nemesis.faults import possible
from tests.nemesis.plan import Kind
from tests.nemesis.run import Settings, run

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.timeout(410)]

IN_BUILD = os.environ.get("CI") == "true"
PROCESSES: tuple[Kind, ...] = (
    "kill", "kill-most", "kill-all", "power", "power-all", "pause", "roll", "handover",
)  # fmt: skip
CABLES: tuple[Kind, ...] = ("cut", "one-way-in", "one-way-out", "split", "bridge", "lossy", "slow")
REST: tuple[Kind, ...] = ("full-disk", "clock", "drain", "demote", "handover", "kill")
MIXED: tuple[Kind, ...] = tuple(possible())


def _clean(seed: int, seconds: float, kinds: tuple[Kind, ...], *, managers: int = 3) -> None:
    there = tuple(kind for kind in kinds if kind in possible())
    lines: list[str] = []
    result = run(Settings(seed, seconds, managers, there), lines.append)
    print("\n".join([*lines, "", *result.lines()]))
    assert result.findings == (), "\n".join(result.lines())
    assert len(result.inflicted) >= seconds / 30, "hardly anything went wrong: this proves little"


@pytest.mark.skipif(IN_BUILD, reason="a build runs the ten minutes below")
def test_a_minute_of_everything_breaks_no_promise() -> None:
    _clean(11, 60, MIXED)


@pytest.mark.skipif(not IN_BUILD, reason="a build's: CI=true, or make nemesis MINUTES=10")
@pytest.mark.parametrize(
    ("seed", "kinds", "managers"),
    [(101, PROCESSES, 3), (102, CABLES, 3), (103, REST, 3), (104, MIXED, 3), (105, MIXED, 5)],
    ids=["processes", "cables", "disks clocks members", "everything", "five managers"],
)
def test_ten_minutes_break_no_promise(seed: int, kinds: tuple[Kind, ...], managers: int) -> None:
    _clean(seed, 120, kinds, managers=managers)
