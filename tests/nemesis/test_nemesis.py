"""Real daemons under real faults: no promise is broken.

A minute of everything; with NEMESIS_MINUTES=10 ten minutes, on a machine that has nothing else to do: healing
takes what it can give.
"""

from __future__ import annotations

import os

import pytest

from tests.nemesis.faults import possible
from tests.nemesis.plan import Kind
from tests.nemesis.run import Settings, run

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.timeout(600)]

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


MINUTE = [(11, 60, MIXED, 3)]
TEN_MINUTES = [
    (101, 120, PROCESSES, 3),
    (102, 120, CABLES, 3),
    (103, 120, REST, 3),
    (104, 120, MIXED, 3),
    (105, 120, MIXED, 5),
]
RUNS = TEN_MINUTES if os.environ.get("NEMESIS_MINUTES") == "10" else MINUTE


@pytest.mark.parametrize(("seed", "seconds", "kinds", "managers"), RUNS)
def test_faults_break_no_promise(seed: int, seconds: int, kinds: tuple[Kind, ...], managers: int) -> None:
    _clean(seed, seconds, kinds, managers=managers)
