"""What is promised while a manager that is to be follows the open epoch's log."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from unittest import mock

import msgspec
import pytest

from swarmd.model.errors import Refused, Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.held import Held
from swarmd.store.raft.learning import Learning, Teaching
from swarmd.store.raft.logcopy import LogCopy
from tests.simulation.raft.checks import Violation
from tests.simulation.raft.directed import QUIET, change, founded, live, role, settled, until, write
from tests.simulation.raft.machine import Machine
from tests.simulation.raft.run import drive, simulated
from tests.simulation.raft.world import World

SLOW_BASES = 200  # one takes 0.4 s then


async def joined(world: World, *, others: str = "1") -> Machine:
    """A machine that knows some managers and holds what the leader's epoch began with."""
    learner = world.add()
    learner.start(peers=world.addresses(f"m{number}" for number in others))
    await until(lambda: learner.node is not None and learner.node._held.newest)
    return learner


def follows(learner: Machine, count: int) -> Callable[[], bool]:
    """``learner``, still no manager, has applied ``count`` changes."""
    return lambda: (
        role(learner_world(learner), learner.name) == "learner"
        and learner.register is not None
        and learner.register.index == count
    )


def learner_world(learner: Machine) -> World:
    world = learner._on_stopped.__self__  # type: ignore[attr-defined]
    assert isinstance(world, World)
    return world


async def _pause_from_one_to_two(world: World) -> float:
    """Seconds from the agreed change until the next write is accepted."""
    world.base_cost = SLOW_BASES
    leader = await founded(world, "m1")
    await joined(world)
    for number in range(20):
        await write(leader, b"%d" % number)
    await change(world, "12")
    began = world.loop.now
    try:
        await write(leader, b"next")
    except Unavailable:
        return math.inf
    return world.loop.now - began


def test_from_one_manager_to_two_nobody_waits_for_a_base() -> None:
    pauses = [live(_pause_from_one_to_two, 1, seed) for seed in range(1, 9)]
    assert max(pauses) < 0.1
    # As one of an earlier version, which follows nothing and does not say so.
    with mock.patch.object(Learning, "turn"), mock.patch.object(Held, "position", 0):
        assert live(_pause_from_one_to_two, 1) > 0.3


def test_a_learner_has_every_change_soon_after_it_is_agreed_upon() -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        await write(leader, b"before")
        learner = await joined(world, others="123")
        for number in range(30):
            await write(leader, b"%d" % number)
        agreed = world.loop.now
        await until(follows(learner, 31))
        assert world.loop.now - agreed < 0.1

    live(scenario, 3)


def test_a_learner_goes_on_from_its_own_copy_after_a_loss_of_power() -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        learner = await joined(world)
        for number in range(10):
            await write(leader, b"%d" % number)
        await until(follows(learner, 10))
        await asyncio.sleep(0.1)
        learner.die(power=True)
        world.network.cut(["m1"], [learner.name])
        learner.start(peers=world.addresses(["m1"]))
        await until(follows(learner, 10))
        world.network.heal()
        await change(world, "12")
        await write(await settled(world), b"last")

    live(scenario, 1)


def test_a_learner_goes_through_rolls_with_the_others_and_fetches_no_base_for_them() -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        learner = await joined(world, others="123")
        assert learner.node is not None
        fetched = mock.Mock(wraps=learner.node._keeper._fetch)
        with mock.patch.object(learner.node._keeper, "_fetch", fetched):
            for number in range(40):
                await write(leader, b"%d" % number)
                await asyncio.sleep(0.02)
            await until(follows(learner, 40))
        assert learner.node._held.newest > 3
        fetched.assert_not_called()

    profile = msgspec.structs.replace(QUIET, roll_entries=(10, 10))
    with simulated(1, profile, 3) as world:
        drive(world, scenario(world))


@pytest.mark.parametrize("gone", ["m1", "m2", "m3"])
def test_whoever_of_the_managers_dies_a_learner_follows_another(gone: str) -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        learner = await joined(world, others="123")
        await write(leader, b"before")
        await until(follows(learner, 1))
        world.machines[gone].die(power=True)
        await until(lambda: world.leader() is not None and world.leader() is not world.machines[gone])
        leader = world.leader() or leader
        await write(leader, b"after")
        await until(follows(learner, 2))

    live(scenario, 3)


def test_a_learner_that_is_heard_and_cannot_ask_finds_one_that_it_can() -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        learner = await joined(world, others="123")
        world.network.cut([learner.name], ["m1", "m3"], both_ways=False)
        for number in range(10):
            await write(leader, b"%d" % number)
            await asyncio.sleep(0.3)
        await until(follows(learner, 10))

    live(scenario, 3)


def test_a_learner_finds_the_only_manager_though_both_were_away_when_it_moved() -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        learner, other = await joined(world), await joined(world)
        await until(follows(other, 0))
        before = world.addresses(["m1", other.name])
        leader.die(power=True)
        learner.die(power=True)
        leader.moves += 1
        leader.start(peers=world.addresses([other.name]))
        learner.start(peers=before)
        await until(lambda: leader.node is not None and leader.node.is_leader())
        await write(leader, b"from elsewhere")
        await until(follows(learner, 1))

    live(scenario, 1)


def test_one_that_lags_is_not_made_a_manager_until_it_is_up_to_date() -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        await joined(world)
        with mock.patch.object(LogCopy, "take"):
            for number in range(10):
                await write(leader, b"%d" % number)
            with pytest.raises(Refused, match=r"m2 \(1\d entries behind\) is not yet up to date"):
                await change(world, "12", timeout=2.0)
        await write(leader, b"goes on")
        await change(world, "12")
        await write(await settled(world), b"last")

    live(scenario, 1)


def test_one_that_is_no_manager_to_be_any_more_holds_nobody_up() -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        learner = await joined(world, others="123")
        await write(leader, b"before")
        await learner.stop()
        for number in range(25):
            await write(leader, b"%d" % number)
        await until(lambda: leader.node is not None and not leader.node._held.old)
        assert leader.node is not None
        assert leader.node._held.newest > 2

    profile = msgspec.structs.replace(QUIET, roll_entries=(10, 10))
    with simulated(1, profile, 3) as world:
        drive(world, scenario(world))


def test_a_copy_that_differs_from_the_managers_log_is_not_gone_on_with() -> None:
    async def scenario(world: World) -> pb.LogPiece:
        leader = await founded(world, "m1")
        await write(leader, b"one")
        assert leader.node is not None
        teaching: Teaching = leader.node._member._hearing.teaching
        return teaching._piece(pb.LogAsk(epoch=1, last_index=2, last_term=77))

    assert live(scenario, 1) == pb.LogPiece(epoch=1, gone=True)


@pytest.mark.parametrize("entries", [5, 1000])
def test_power_lost_at_any_operation_of_a_learners_disk_breaks_no_promise(entries: int) -> None:
    """Each operation of its disk is its last one once: while it follows, rolls, and becomes a manager."""
    at = 1
    while _lives_through(at, entries):
        at += 1
    assert at > 15, "the scenario has hardly any disk operations"


def _lives_through(at: int, entries: int) -> bool:
    """True when the learner lost its power in its ``at``-th operation; False when it had not so many."""

    async def scenario(world: World) -> bool:
        leader = await founded(world, "m1")
        learner = await joined(world)
        learner.disk.crash_at = learner.disk.operations + at
        for number in range(6):
            await write(leader, b"%d" % number)
        await until(lambda: learner.is_up())
        await change(world, "12", timeout=20.0)
        crashed = learner.runs > 1 or not learner.is_up()
        world.heal()
        await write(await settled(world), b"last")
        await settled(world)
        if learner.name in world.gone:
            raise Violation(f"a loss of power cost the learner its state: {learner.problem}")
        return crashed

    profile = msgspec.structs.replace(QUIET, roll_entries=(entries, entries))
    with simulated(at, profile, 1) as world:
        lived: bool = drive(world, scenario(world))
    return lived
