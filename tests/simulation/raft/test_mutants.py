"""The checks can fail: each fault put into the product on purpose is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarmd.model.errors import SwarmError
from tests.simulation.raft.checks import Violation
from tests.simulation.raft.directed import DIRECTED
from tests.simulation.raft.mutants import MUTANTS

ROOT = Path(__file__).parents[3]
BY_CHANCE = sorted(name for name, mutant in MUTANTS.items() if mutant.where is not None)


@pytest.mark.parametrize("name", sorted(DIRECTED))
def test_the_promise_holds_in_the_disaster_arranged_by_hand(name: str, tmp_path: Path) -> None:
    DIRECTED[name](tmp_path)


@pytest.mark.parametrize("name", sorted(DIRECTED))
def test_the_disaster_arranged_by_hand_finds_its_mutant(name: str, tmp_path: Path) -> None:
    with MUTANTS[name].active(), pytest.raises((Violation, AssertionError, TimeoutError, SwarmError)):
        DIRECTED[name](tmp_path)


@pytest.mark.parametrize("name", BY_CHANCE)
def test_chance_finds_the_mutant(name: str) -> None:
    where = MUTANTS[name].where
    assert where is not None
    profile, members, first = where
    command = [sys.executable, "-m", "tests.simulation.raft", "--mutant", name, "--stop", "--seeds", "30"]
    command += ["--profile", profile, "--members", str(members), "--first", str(first)]
    run = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "again: python -m tests.simulation.raft" in run.stdout, run.stderr


def test_every_mutant_has_a_way_to_be_found() -> None:
    assert {name for name, mutant in MUTANTS.items() if mutant.where is None} == set(DIRECTED)
