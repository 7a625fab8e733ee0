"""Disasters arranged by hand that chance finds too seldom, each named after the mutant it is for.

A scenario raises Violation or AssertionError when the promise does not hold.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from swarmd.model.errors import Refused, Unavailable
from swarmd.store.raft.engine import Engine
from swarmd.store.raft.envelope import Body, Command, Envelope, Seal, encode_envelope
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.records import RECORD_OVERHEAD, Entry, Marker
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.wal import LogState, Wal
from tests.simulation.raft.machine import Machine
from tests.simulation.raft.profiles import Profile
from tests.simulation.raft.run import drive, simulated
from tests.simulation.raft.world import World

QUIET = Profile(fault_rate=0.0, roll_entries=(1000, 1000))
_PATIENCE = 20.0


def live(scenario: Callable[[World], Coroutine[Any, Any, Any]], members: int, seed: int = 1) -> Any:
    """What ``scenario`` gives in a world of ``members`` machines without chance disasters."""
    with simulated(seed, QUIET, members) as world:
        return drive(world, scenario(world))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not condition():  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.02)


async def settled(world: World) -> Machine:
    """Wait until everybody agrees; answers the leader."""
    await until(lambda: world.leader() is not None and not world.unfinished())
    leader = world.leader()
    assert leader is not None
    return leader


async def founded(world: World, leader: str) -> Machine:
    """Found a swarm and have ``leader`` lead it."""
    world.found()
    led = await settled(world)
    while led.name != leader:
        await led.call(RaftNode.transfer, _PATIENCE)
        led = await settled(world)
    return led


async def write(machine: Machine, command: bytes) -> None:
    index = await machine.call(lambda node: node.propose(command, timeout=_PATIENCE), _PATIENCE)
    machine.checker.wrote(command.decode(), index)


async def change(world: World, names: str, timeout: float = 8.0) -> None:
    """Make the machines with these numbers the managers."""
    wanted = world.addresses(f"m{number}" for number in names)
    leader = world.leader()
    assert leader is not None
    world.checker.asked[frozenset(wanted)] += 1
    await leader.call(lambda node: node.change_members(wanted, timeout=timeout), _PATIENCE)


def role(world: World, name: str) -> str:
    node = world.machines[name].node
    return node.status().role if node is not None else "down"


# -- one group's core ------------------------------------------------------------------------------------


def forgotten_vote(directory: Path) -> None:
    """Whoever voted, crashed and came back does not vote for another one in the same term."""

    def run(candidate: str) -> bool:
        wal = Wal(directory / "log", 1, SystemDisk())
        engine = Engine("a", dict.fromkeys("abc", ""), wal.state, Timing())
        ask = {"type": "request_vote", "term": 5, "last_log_index": 9, "last_log_term": 4}
        engine.deliver(candidate, ask)
        wal.commit(engine.take_items() or [Entry(2, 1, b"x")])
        wal.close()
        return any(message["type"] == "response_vote" for _, message in engine.take_messages())

    assert run("b")
    assert not run("c"), "two votes in one term"


def _leader_of_five() -> Engine:
    """It leads term 4, and has entries of the terms 1, 2 and 4 of which nobody has said anything yet."""
    state = LogState([Entry(2, 1, b"\x01"), Entry(3, 2, b"\x00x")], 3, None)
    engine = Engine("a", dict.fromkeys("abcde", ""), state, Timing())
    for peer in "bcde":
        engine.set_connected(peer, True)
    engine.elect_now()
    engine.tick()
    for voter in "bc":
        engine.deliver(voter, {"type": "response_vote", "term": 4})
    assert engine.leading
    return engine


def commit_old_terms(directory: Path) -> None:
    """An entry of an older term is not agreed upon because a majority has it (figure 8 of the Raft paper)."""
    engine = _leader_of_five()
    _both_have(engine, 3)
    assert engine.position.committed < 3, "an entry of an old term was committed by counting"
    _both_have(engine, 4)
    assert engine.position.committed == 4


def commit_unclamped(directory: Path) -> None:
    """A heartbeat commits no more of a follower's log than it has compared with its own."""
    entries = [Entry(2, 1, b"\x01"), Entry(3, 1, b"\x00mine"), Entry(4, 1, b"\x00mine")]
    engine = Engine("a", dict.fromkeys("abc", ""), LogState(entries, 1, None), Timing())
    heartbeat = {"type": "append_entries", "term": 3, "prevLogIdx": 2, "prevLogTerm": 1, "entries": []}
    engine.deliver("b", heartbeat | {"commit_index": 4})
    assert engine.position.committed == 2, "entries that nobody compared were committed"


def stale_answers_counted(directory: Path) -> None:
    """What followers acknowledged in an older term says nothing of the entries of this one."""
    engine = _leader_of_five()
    _both_have(engine, 4, term=3)
    assert engine.position.committed < 4, "an answer of an older term was counted"


def _both_have(engine: Engine, last: int, term: int = 4) -> None:
    """Two others answer that they have everything up to ``last``."""
    for peer in "bc":
        answer = {"type": "next_node_idx", "term": term, "next_node_idx": last + 1}
        engine.deliver(peer, answer | {"reset": False, "success": True})
    engine.tick()


# -- what stands in a log --------------------------------------------------------------------------------


def _with_log(bodies: list[tuple[int, Body]]) -> list[str]:
    """What a single manager has applied after a restart with these (sequence, body) behind its log."""

    async def scenario(world: World) -> list[str]:
        leader = await founded(world, "m1")
        await write(leader, b"before")
        leader.die(power=False)
        wal = Wal(leader.directory / "log-000000000001.wal", 1, SystemDisk())
        first, term = len(wal.state.entries) + 2, wal.state.term
        commands = [encode_envelope(Envelope("another", number, body)) for number, body in bodies]
        wal.commit([Entry(first + n, term, b"\x00" + command) for n, command in enumerate(commands)])
        wal.close()
        leader.start()
        await write(await settled(world), b"after")
        return world.checker.history

    applied = live(scenario, 1)
    assert isinstance(applied, list)
    return applied


def behind_seal_applied(directory: Path) -> None:
    """What stands behind a seal is void."""
    seal = Seal({"m1": "10.0.0.1:2377"})
    assert _with_log([(1, seal), (2, Command(b"behind"))]) == ["before", "after"]


def no_dedupe(directory: Path) -> None:
    """What stands in the log twice is applied once."""
    assert _with_log([(1, Command(b"x")), (1, Command(b"x"))]) == ["before", "x", "after"]


def damage_taken_for_torn(directory: Path) -> None:
    """A manager whose last promises are damaged does not come back as if it had made none."""

    async def scenario(world: World, position: int) -> str:
        leader = await founded(world, "m1")
        await write(leader, b"promised" * 9)
        leader.die(power=False)
        path = leader.directory / "log-000000000001.wal"
        data = bytearray(path.read_bytes())
        data[data.rfind(b"promised") + position] ^= 0x10
        path.write_bytes(bytes(data))
        leader.start()
        await until(lambda: leader.state != "up" or (leader.node is not None and leader.node.status().epoch))
        return leader.state

    for position in (-RECORD_OVERHEAD - 80, -60, 0, 7):
        with simulated(1, QUIET, 1) as world:
            state = drive(world, scenario(world, position))
        assert state == "refused", f"damage at {position} was not noticed"


# -- amnesia ---------------------------------------------------------------------------------------------


def lost_disk_forgiven(directory: Path) -> None:
    """One who promised, and lost its disk, does not help those who were not there to a majority."""

    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        late, lost = world.machines["m2"], world.machines["m3"]
        world.network.cut(["m2"], ["m1", "m3"])
        await write(leader, b"promised")
        lost.die(power=False)
        lost.disk.erase()
        world.network.heal()
        world.network.cut(["m1"], ["m2", "m3"])
        lost.start(peers=world.addresses(["m2"]))
        await asyncio.sleep(10.0)
        assert role(world, "m3") == "stopped" or not lost.is_up()
        assert role(world, late.name) != "leader"

    live(scenario, 3)


def no_floor(directory: Path) -> None:
    """One who left and was wiped does not begin an old epoch again with somebody who missed the change."""

    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        left = world.machines["m2"]
        world.network.cut(["m3"], ["m1", "m2"])
        await write(leader, b"promised")
        await change(world, "1")
        await until(lambda: role(world, "m2") == "stopped")
        await left.stop()
        world.network.cuts -= {("m2", "m3"), ("m3", "m2")}
        world.network.cut(["m1"], ["m2"])
        left.start(peers=world.addresses(["m3"]))
        await asyncio.sleep(10.0)
        assert role(world, "m3") != "leader"
        world.network.heal()
        await settled(world)

    live(scenario, 3)


def old_epoch_dropped(directory: Path) -> None:
    """One who leaves keeps what those who follow need to begin."""

    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        await write(leader, b"before")
        heir = world.add()
        heir.start(peers=world.addresses(["m1"]))
        await until(lambda: heir.register is not None and heir.register.index == 1)
        await asyncio.sleep(0.5)
        assert heir.node is not None
        copy = heir.node._held.copy
        assert copy is not None
        copy.take = lambda entries: None  # type: ignore[method-assign] - the seal does not reach it
        await change(world, "2")
        await until(lambda: role(world, heir.name) == "leader")
        await write(heir, b"after")

    live(scenario, 1)


def seal_for_nobody(directory: Path) -> None:
    """Those who cannot run are not made the managers."""

    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        world.machines["m2"].die(power=False)
        await asyncio.sleep(0.2)
        with contextlib.suppress(Refused):
            await change(world, "12", timeout=2.0)
        await write(leader, b"still")
        assert sorted(world.checker.members()) == ["m1", "m2", "m3"]

    live(scenario, 3)


# -- reads -----------------------------------------------------------------------------------------------


def read_in_sealed_epoch(directory: Path) -> None:
    """A leader that is slow to begin the next epoch does not answer reads from the one it sealed."""

    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        joiner = world.add()
        joiner.start(peers=world.addresses(["m1", "m2", "m3"]))
        assert leader.node is not None
        held = leader.node._held
        roll = held.roll

        async def slowly(marker: Marker) -> None:
            await asyncio.sleep(4.0)
            await roll(marker)

        held.roll = slowly  # type: ignore[method-assign]
        changing = asyncio.ensure_future(change(world, "1234"))
        heir = world.machines["m2"]
        await until(lambda: all(_newest(world.machines[name]) == 2 for name in ("m2", "m3")))
        assert heir.node is not None
        current = heir.node._held.current
        assert current is not None
        current.engine.kick()  # before the silence of m1 ends its term in the old epoch
        await until(lambda: role(world, "m2") == "leader")
        await write(heir, b"later")
        assert held.newest == 1
        await leader.call(lambda node: node.read_index(timeout=_PATIENCE), _PATIENCE)
        assert leader.register is not None
        world.checker.read("m1", world.checker.newest_known, leader.register.index)
        await changing

    live(scenario, 3)


def _newest(machine: Machine) -> int:
    return machine.node._held.newest if machine.node is not None else 0


def _only_reads(machine: Machine, peer: str) -> None:
    """Nothing of its pump reaches ``peer`` any more, so nothing deposes anybody: only what its reads say."""
    assert machine.node is not None
    transport = machine.node._member.transport
    send = transport.send  # the reads have kept it from their beginning
    transport.send = lambda to, frame: to != peer and send(to, frame)  # type: ignore[method-assign]


def read_acked_past_term(directory: Path) -> None:
    """A leader that was cut off is not told by those who voted for another that they follow it still."""

    async def scenario(world: World) -> None:
        leader = await founded(world, "m1")
        others = [machine for name, machine in world.machines.items() if name != "m1"]
        world.network.cut(["m1"], ["m2", "m3"])
        await until(lambda: [m for m in others if role(world, m.name) == "leader"])
        heir = next(m for m in others if role(world, m.name) == "leader")
        await write(heir, b"later")
        voter = next(m for m in others if m is not heir)
        for one, other in ((leader, voter), (voter, leader)):
            _only_reads(one, other.name)
            world.network.ends[one.name].lanes[other.name].stalled.clear()
        world.network.cuts -= {("m1", voter.name), (voter.name, "m1")}
        with contextlib.suppress(Unavailable):
            await leader.call(lambda node: node.read_index(timeout=0.5), _PATIENCE)
            assert leader.register is not None
            world.checker.read("m1", world.checker.newest_known, leader.register.index)

    live(scenario, 3)


DIRECTED: dict[str, Callable[[Path], None]] = {
    "forgotten-vote": forgotten_vote,
    "commit-old-terms": commit_old_terms,
    "commit-unclamped": commit_unclamped,
    "stale-answers-counted": stale_answers_counted,
    "behind-seal-applied": behind_seal_applied,
    "no-dedupe": no_dedupe,
    "damage-taken-for-torn": damage_taken_for_torn,
    "lost-disk-forgiven": lost_disk_forgiven,
    "no-floor": no_floor,
    "old-epoch-dropped": old_epoch_dropped,
    "seal-for-nobody": seal_for_nobody,
    "read-in-sealed-epoch": read_in_sealed_epoch,
    "read-acked-past-term": read_acked_past_term,
}
