"""Reads that need no entry in the log: never stale, whichever manager is asked; how old the others are."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from swarmd.model.errors import Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.memory import MemoryTransport
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.probe import Probe
from swarmd.store.raft.timing import Timing
from tests.unit.test_raft_group import FAST, Group, until

pytestmark = pytest.mark.usefixtures("skipping_time")


class Counting:
    """Which frames were sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kinds: Counter[str] = Counter()
        send = MemoryTransport.send

        def counted(transport: MemoryTransport, peer: str, frame: pb.PeerFrame) -> None:
            self.kinds[frame.WhichOneof("body") or ""] += 1
            send(transport, peer, frame)

        monkeypatch.setattr(MemoryTransport, "send", counted)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Made before the managers are: they keep hold of how they send."""
    return Counting(monkeypatch)


@pytest.fixture
async def group(memory_path: Path, counting: Counting) -> AsyncIterator[Group]:
    group = Group(memory_path)
    yield group
    for name in list(group.nodes):
        await group.kill(name)


def followers(group: Group, leader: RaftNode) -> list[RaftNode]:
    return [node for node in group.nodes.values() if node is not leader]


def last(node: RaftNode) -> int:
    current = node._held.current
    assert current is not None
    return current.engine.position.last


def question(number: int = 1) -> pb.ReadProbe:
    return pb.ReadProbe(epoch=2, term=3, number=number)


def answer(**other: int) -> pb.ReadAck:
    return pb.ReadAck(**{"epoch": 2, "term": 3, "number": 1, **other})


@pytest.mark.parametrize("other", [{"number": 0}, {"number": 2}, {"term": 2}, {"term": 4}, {"epoch": 1}])
def test_an_answer_to_another_question_does_not_count(other: dict[str, int]) -> None:
    probe = Probe("a", dict.fromkeys("abc", ""), question(), 7)
    probe.count("b", answer(**other))
    assert not probe.confirmed
    probe.count("b", answer())
    assert probe.confirmed
    assert probe.silent == ["c"]


def test_a_majority_is_of_the_members_and_nobody_else() -> None:
    probe = Probe("a", dict.fromkeys("abcde", ""), question(), 7)
    for peer in "bxyz":
        probe.count(peer, answer())
    assert not probe.confirmed
    assert Probe("a", {"a": ""}, question(), 7).confirmed


async def test_a_read_on_any_manager_sees_what_was_acknowledged_before(group: Group) -> None:
    leader = await group.found("abc")
    for number in range(1, 20):
        await leader.propose(str(number).encode())
        for name, node in group.nodes.items():
            assert await node.read_index() >= number
            assert len(group.machines[name].commands) >= number


@pytest.mark.parametrize(
    ("epochs", "terms", "peer", "acks"),
    [(0, 0, "b", 1), (0, -1, "b", 0), (0, 1, "b", 0), (-1, 0, "b", 0), (1, 0, "b", 0), (0, 0, "stranger", 0)],
)
async def test_only_a_member_at_the_same_term_of_the_newest_epoch_is_answered(
    group: Group, counting: Counting, epochs: int, terms: int, peer: str, acks: int
) -> None:
    await group.found("abc")
    node = group.nodes["a"]
    await until(lambda: node.status().leader)
    status = node.status()
    probe = pb.ReadProbe(epoch=status.epoch + epochs, term=status.term + terms, number=1)
    node.on_frame(peer, pb.PeerFrame(read_probe=probe))
    assert counting.kinds["read_ack"] == acks


async def test_reads_put_nothing_into_the_log(group: Group) -> None:
    leader = await group.found("abc")
    await leader.propose(b"x")
    before = last(leader)
    for node in group.nodes.values():
        assert await node.read_index() == 1
    assert last(leader) == before


async def test_reads_that_come_together_share_a_question(group: Group, counting: Counting) -> None:
    leader = await group.found("abc")
    follower = followers(group, leader)[0]
    await until(lambda: follower.status().leader)
    await asyncio.gather(*(node.read_index() for node in (leader, follower) for _ in range(100)))
    # The first goes out alone, those behind it share the next one; each goes to two members.
    assert 1 <= counting.kinds["read_ask"] <= 3
    assert 2 <= counting.kinds["read_probe"] <= 2 * 5


async def test_a_single_manager_asks_nobody(group: Group, counting: Counting) -> None:
    leader = await group.found("a")
    await leader.propose(b"x")
    assert await leader.read_index(timeout=0.5) == 1
    assert counting.kinds["read_probe"] == 0


async def test_a_leader_that_was_cut_off_answers_no_read(group: Group) -> None:
    leader = await group.found("abc")
    await leader.propose(b"x")
    alone = group.name_of(leader)
    group.network.cut(alone, "abc".replace(alone, ""))
    assert leader.is_leader()
    with pytest.raises(Unavailable, match="does not have a leader"):
        await leader.read_index(timeout=0.3)
    other = await group.led("abc".replace(alone, ""))
    await other.propose(b"y")
    with pytest.raises(Unavailable):
        await leader.read_index(timeout=0.3)
    group.network.heal()
    assert await leader.read_index() == 2


async def test_a_read_survives_a_change_of_leaders_and_a_roll(group: Group) -> None:
    leader = await group.found("abc", roll_entries=10)
    reader = followers(group, leader)[0]
    for acknowledged in range(1, 41):
        current = await group.led()
        await current.propose(str(acknowledged).encode())
        if acknowledged == 20:
            await current.transfer()
        assert await reader.read_index() >= acknowledged
    assert reader.status().epoch > 2


async def test_a_disk_that_stands_still_holds_up_no_read(group: Group) -> None:
    go_on = threading.Event()
    go_on.set()

    class Standing(SystemDisk):
        def sync(self, fd: int) -> None:
            go_on.wait(120)
            super().sync(fd)

    leader = await group.found("abc", disk=Standing(), timing=Timing())
    await leader.propose(b"x")
    go_on.clear()
    writing = asyncio.ensure_future(leader.propose(b"y"))
    try:
        await until(lambda: leader._proposals.in_flight)
        assert await leader.read_index(timeout=1.0) == 1
        assert not writing.done()
    finally:
        go_on.set()
    assert await writing == "2:y"


async def test_a_manager_says_how_old_what_it_holds_may_be(group: Group) -> None:
    leader = await group.found("abc")
    follower = followers(group, leader)[0]
    name = group.name_of(follower)

    def age(node: RaftNode) -> Any:
        return node.status().age

    await until(lambda: age(follower) is not None)  # which takes a moment longer than to know the leader
    assert age(leader) == 0.0
    await until(lambda: age(follower) < 1.0)
    group.network.cut(name, "abc".replace(name, ""))
    await until(lambda: age(follower) > 1.2)
    group.network.heal()
    await until(lambda: age(follower) < 1.0)


async def test_a_deposed_leader_counts_from_when_it_was_last_followed_for_sure(group: Group) -> None:
    leader = await group.found("abc")
    for node in followers(group, leader):
        await group.kill(group.name_of(node))
    await until(lambda: not leader.is_leader())
    age = leader.status().age
    assert age is not None
    assert age >= FAST.quorum_lost


async def test_one_that_has_heard_of_no_leader_does_not_know(group: Group) -> None:
    await group.found("abc")
    for name in "abc":
        await group.kill(name)
    alone = await group.restart("a")
    assert alone.status().age is None


async def test_whoever_waits_is_told_when_the_manager_stops(group: Group) -> None:
    leader = await group.found("abc")
    alone = group.name_of(leader)
    group.network.cut(alone, "abc".replace(alone, ""))
    reading = asyncio.ensure_future(leader.read_index())
    await asyncio.sleep(0)
    await group.kill(alone)
    with pytest.raises(Unavailable, match="shutting down"):
        await reading
    with pytest.raises(Unavailable, match="shutting down"):
        await leader.read_index()
