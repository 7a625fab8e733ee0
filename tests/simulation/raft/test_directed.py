"""Faults that the simulation found in the product, as the shortest way to each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from swarmd.model.errors import Refused, Unavailable
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.records import Corrupt
from swarmd.store.raft.snapshots import SnapshotStore
from swarmd.store.raft.timing import Timing
from tests.simulation.raft.directed import QUIET, change, founded, live, role, settled, until, write
from tests.simulation.raft.run import drive, simulated
from tests.simulation.raft.world import World


def test_a_hand_over_is_asked_for_now_and_then_instead_of_without_end() -> None:
    async def scenario(world: World) -> None:
        world.found()
        leader = await settled(world)
        world.network.delay = 0.01
        await leader.call(RaftNode.transfer, 10.0)
        assert await settled(world) is not leader

    with simulated(1, QUIET, 3) as world:
        drive(world, scenario(world))
        assert 1 <= world.spoken["TYPE_TIMEOUT_NOW"] <= 5


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_whose_connections_ended_is_replaced_before_the_election_timeout(seed: int) -> None:
    async def scenario(world: World) -> float:
        leader = await founded(world, "m1")
        begin = world.loop.time()
        leader.die(power=False)
        await until(lambda: world.leader() not in (None, leader))
        return world.loop.time() - begin

    assert live(scenario, 3, seed) < Timing().election_min


@pytest.mark.parametrize("seed", range(5))
def test_a_write_that_fails_while_its_time_runs_out_is_not_called_undone(seed: int) -> None:
    """The leader wakes from a pause: its leadership and the patience of a client ended at once."""

    async def scenario(world: World) -> str:
        world.found()
        leader = await settled(world)
        world.network.cut([leader.name], world.machines)
        asking = asyncio.ensure_future(leader.call(lambda node: node.propose(b"x", timeout=1.0), 20.0))
        await asyncio.sleep(0.1)
        leader.freeze()
        await asyncio.sleep(5.0)
        leader.thaw()
        with pytest.raises(Unavailable) as caught:
            await asking
        return str(caught.value)

    assert "may have been applied" in live(scenario, 3, seed)


def test_a_manager_that_left_is_not_made_one_again_before_it_was_started_anew() -> None:
    async def scenario(world: World) -> None:
        await founded(world, "m1")
        gone = world.machines["m3"]
        await change(world, "12")
        await until(lambda: role(world, "m3") == "stopped")
        await settled(world)
        with pytest.raises(Refused, match="m3"):
            await change(world, "123", timeout=3.0)
        await gone.stop()
        world.again(gone)
        await change(world, "123")
        await settled(world)
        assert sorted(world.checker.members()) == ["m1", "m2", "m3"]

    live(scenario, 3)


def test_a_straggler_finds_the_managers_of_today_through_those_who_left() -> None:
    async def scenario(world: World) -> None:
        await founded(world, "m1")
        away = world.machines["m3"]
        away.die(power=True)
        for _ in range(3):
            machine = world.add()
            machine.start(peers={n: a for n, a in world.addresses().items() if n != machine.name})
        await change(world, "12456")
        await until(lambda: world.leader() is not None)
        await change(world, "456")
        await until(lambda: role(world, "m1") == role(world, "m2") == "stopped")
        away.start()
        await until(lambda: role(world, "m3") == "stopped")

    live(scenario, 3)


@pytest.mark.parametrize("before", range(12, 19))
def test_a_roll_that_was_due_does_not_undo_the_change_of_members_before_it(before: int) -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        for number in range(before):
            await write(leader, b"b%d" % number)
        # In one turn the log becomes long enough; in the next the change is there as well.
        writing = [asyncio.ensure_future(write(leader, b"w%d" % number)) for number in range(8)]
        await asyncio.sleep(0.0001)
        await change(world, "1")
        await asyncio.gather(*writing)
        for number in range(5):
            await write(leader, b"a%d" % number)
        assert list(world.checker.members()) == ["m1"]

    profile = msgspec.structs.replace(QUIET, roll_entries=(20, 20))
    with simulated(1, profile, 2) as world:
        drive(world, scenario(world))


@pytest.mark.parametrize(
    "damage", [b'{"epoch":3,"members":{"\xae":"10.0.0.1:1"}}', b'{"epoch":', b"\x00" * 40]
)
def test_a_damaged_floor_is_refused_with_a_sentence(tmp_path: Path, damage: bytes) -> None:
    store = SnapshotStore(tmp_path, SystemDisk())
    (tmp_path / "floor").write_bytes(damage)
    with pytest.raises(Corrupt, match="Join again under a new id"):
        store.floor()
