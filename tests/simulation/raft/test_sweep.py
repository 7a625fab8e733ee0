"""A small sweep for every day; ``make sim-raft`` runs the big ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.simulation.raft.directed import QUIET, founded, settled, write
from tests.simulation.raft.profiles import PROFILES
from tests.simulation.raft.run import drive, simulated
from tests.simulation.raft.workload import Client
from tests.simulation.raft.world import World

ROOT = Path(__file__).parents[3]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation.raft", *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("members", "seeds"), [("3", "3"), ("5", "2")])
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_no_promise_is_broken(profile: str, members: str, seeds: str) -> None:
    run = simulate("--profile", profile, "--members", members, "--seeds", seeds, "--first", "7000")
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{seeds} seeds, 0 violations" in run.stdout


def test_a_seed_replays_exactly() -> None:
    stories = [simulate("--seeds", "1", "--first", "7", "--story").stdout.splitlines() for _ in range(2)]
    traces = [re.findall(r"^trace (\w+);", "\n".join(story), re.MULTILINE) for story in stories]
    assert len(traces[0]) == 1
    assert traces[0] == traces[1]
    # But for how long it took to run.
    assert stories[0][:-1] == stories[1][:-1]


def test_power_lost_at_any_operation_of_a_disk_around_a_roll_breaks_no_promise() -> None:
    """Each operation of the leader's disk, and then of a follower's, is its last one once."""
    for victim in ("m1", "m2"):
        at = 1
        while _lives_through(victim, at):
            at += 1
        assert at > 20, "the scenario has hardly any disk operations"


def _lives_through(victim: str, at: int) -> bool:
    """True when ``victim`` lost its power in its ``at``-th operation; False when it had not so many."""

    async def scenario(world: World) -> bool:
        leader = await founded(world, "m1")
        machine = world.machines[victim]
        machine.disk.crash_at = machine.disk.operations + at
        for number in range(6):
            if leader.is_up():
                await Client(world, f"w{number}").write(leader)
        crashed = machine.runs > 1 or not machine.is_up()
        world.heal()
        await write(await settled(world), b"last")
        await settled(world)
        return crashed

    profile = msgspec.structs.replace(QUIET, roll_entries=(5, 5))
    with simulated(at, profile, 3) as world:
        lived: bool = drive(world, scenario(world))
    return lived
