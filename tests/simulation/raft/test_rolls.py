"""What is promised while an epoch has begun and its base is not written yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from unittest import mock

import pytest

from swarmd.model.errors import Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.snapshots import SnapshotStore
from tests.simulation.raft.directed import change, founded, live, settled, until, write
from tests.simulation.raft.machine import Machine
from tests.simulation.raft.network import SimTransport
from tests.simulation.raft.world import World

ROOM_FOR_LOGS = 500


def bases(machine: Machine) -> list[int]:
    return SnapshotStore(machine.directory, machine.disk).epochs()


def logs(machine: Machine) -> list[int]:
    return SnapshotStore(machine.directory, machine.disk).logs()


async def _rolled_without_bases(world: World) -> Machine:
    """m1, alone after two changes of members, of which no base could be written; three writes between."""
    leader = await founded(world, "m1")
    for machine in world.machines.values():
        machine.disk.room = ROOM_FOR_LOGS
    await write(leader, b"first")
    await change(world, "12")
    await write(leader, b"second")
    await change(world, "1")
    await write(leader, b"third")
    return leader


def test_writes_go_on_while_no_base_can_be_written_and_the_manager_says_so() -> None:
    async def scenario(world: World) -> tuple[str, ...]:
        leader = await _rolled_without_bases(world)
        assert leader.node is not None
        await until(lambda: leader.node is not None and leader.node.status().warnings)
        assert bases(leader) == [1]
        return leader.node.status().warnings

    (warning,) = live(scenario, 3)
    assert "cannot write a snapshot" in warning
    assert "Nothing is lost" in warning


@pytest.mark.parametrize("power", [False, True])
def test_a_restart_goes_the_way_again_through_the_logs_of_several_epochs(power: bool) -> None:
    async def scenario(world: World) -> None:
        leader = await _rolled_without_bases(world)
        leader.die(power=power)
        leader.disk.room = ROOM_FOR_LOGS
        leader.start()
        await until(lambda: leader.node is not None and leader.node.is_leader())
        assert world.checker.history == ["first", "second", "third"]
        assert leader.node is not None
        assert leader.node.status().epoch == 3
        await write(leader, b"fourth")
        assert bases(leader) == [1]

    live(scenario, 3)


def test_old_logs_go_when_the_base_is_written_and_the_warning_with_them() -> None:
    async def scenario(world: World) -> None:
        leader = await _rolled_without_bases(world)
        node = leader.node
        assert node is not None
        assert logs(leader) == [1, 2, 3]
        for machine in world.machines.values():
            machine.disk.room = None
        await until(lambda: bases(leader) == [1, 3] and logs(leader) == [3])
        assert node.status().warnings == ()
        leader.die(power=True)
        leader.start()
        await write(await settled(world), b"fourth")
        assert world.checker.history == ["first", "second", "third", "fourth"]

    live(scenario, 3)


def test_one_who_was_away_goes_through_the_log_of_the_old_epoch_while_no_base_is_there() -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        away = world.machines["m3"]
        away.die(power=True)
        for name in ("m1", "m2"):
            world.machines[name].disk.room = ROOM_FOR_LOGS
        await write(leader, b"first")
        await change(world, "12")
        await write(leader, b"second")
        away.start()
        await until(lambda: away.node is not None and away.node.status().epoch == 2)
        assert bases(leader) == [1]
        for name in ("m1", "m2"):
            world.machines[name].disk.room = None
        await settled(world)

    live(scenario, 3)


def test_a_manager_whose_disk_does_not_take_the_marker_stops_and_the_others_go_on() -> None:
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        await write(leader, b"first")
        world.machines["m2"].disk.full = True
        await change(world, "13")
        await write(leader, b"second")
        world.heal()
        await settled(world)
        assert world.checker.history == ["first", "second"]

    live(scenario, 3)


def test_a_manager_with_little_space_left_takes_no_changes_but_new_members_and_then_takes_them_again() -> (
    None
):
    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        node = leader.node
        assert node is not None
        leader.disk.low = True
        await until(lambda: node.status().warnings)
        with pytest.raises(Unavailable, match=rf"{leader.directory} has 0 MiB .* Free some there"):
            await leader.call(lambda node: node.propose(b"x", timeout=5.0), 10.0)
        await change(world, "12")
        await leader.call(lambda node: node.read_index(timeout=5.0), 10.0)
        assert world.checker.history == []
        leader.disk.low = False
        await until(lambda: not node.status().warnings)
        await write(leader, b"first")
        await settled(world)

    live(scenario, 3)


def test_a_transfer_that_breaks_off_goes_on_at_another_manager_with_what_is_missing() -> None:
    asked: list[tuple[str, int]] = []
    fetch = SimTransport.fetch_base

    async def breaking(
        self: SimTransport, peer: str, request: pb.SnapshotRequest
    ) -> AsyncIterator[pb.SnapshotChunk]:
        asked.append((peer, request.offset))
        number = 0
        async for chunk in fetch(self, peer, request):
            yield chunk
            number += 1
            if len(asked) == 1 and number == 2:
                raise ConnectionResetError("cut")

    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        await write(leader, b"first")
        joiner = world.add()
        joiner.start(peers=world.addresses(["m1", "m2"]))
        await until(lambda: joiner.node is not None and joiner.node.status().epoch == 1)
        await change(world, "1234")
        await settled(world)

    with mock.patch.object(SimTransport, "fetch_base", breaking):
        live(scenario, 3)
    (first, nothing), (second, offset) = asked[:2]
    assert first != second
    assert nothing == 0
    assert offset == 600
