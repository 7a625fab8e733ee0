"""What a learner takes into its copy of a log, whom it asks, and what it is given."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.store.raft.epochs import View, lagging
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.journal import REGULAR, Journal
from swarmd.store.raft.logcopy import LogCopy
from swarmd.store.raft.memory import MemoryNetwork
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.offline import take_over
from swarmd.store.raft.peers import Peers
from swarmd.store.raft.records import Entry
from swarmd.store.raft.snapshots import Base
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.wal import LogState, Wal
from tests.unit.test_raft_group import ADDRESSES, FAST, until
from tests.unit.test_raft_group import Journal as Commands


def entry(index: int, term: int = 1, size: int = 1) -> Entry:
    return Entry(index, term, REGULAR + bytes(size))


def copy_in(directory: Path) -> LogCopy:
    return LogCopy(3, Wal(directory / "log", 3, SystemDisk()))


def synced(copy: LogCopy) -> None:
    items = copy.take_items()
    copy.wal.commit(items)
    copy.synced(items)


def test_a_copy_is_applied_only_once_it_is_durable_and_found_again(tmp_path: Path) -> None:
    copy = copy_in(tmp_path)
    copy.take([entry(2), entry(3, term=2)])
    assert copy.take_durable() == []
    assert (copy.last, copy.applied) == (1, 1)
    synced(copy)
    assert copy.take_durable() == [(2, b"\0"), (3, b"\0")]
    assert (copy.last, copy.last_term, copy.applied) == (3, 2, 3)
    copy.wal.close()
    again = copy_in(tmp_path)
    assert again.take_durable() == [(2, b"\0"), (3, b"\0")]
    assert (again.last, again.last_term) == (3, 2)
    again.wal.close()


@pytest.mark.parametrize(
    "entries",
    [[entry(4)], [entry(2), entry(4)], [entry(3, term=0)], [Entry(3, 1, b"")], [entry(2), entry(2)]],
    ids=["a gap", "a gap behind one it has", "a term that sinks", "nothing said", "twice the same"],
)
def test_what_does_not_go_on_where_the_copy_ends_is_left_out(entries: list[Entry], tmp_path: Path) -> None:
    copy = copy_in(tmp_path)
    copy.take([entry(2)])
    copy.take(entries)
    assert copy.take_items() == [entry(2)]
    copy.wal.close()


def test_a_copy_takes_no_more_than_a_few_mebibytes_at_a_time(tmp_path: Path) -> None:
    copy = copy_in(tmp_path)
    copy.take(entry(index, size=1 << 20) for index in range(2, 12))
    assert len(copy.take_items()) == 3
    copy.wal.close()


def test_a_piece_of_a_log_has_one_entry_or_as_many_as_fit() -> None:
    journal = Journal(LogState([entry(index, size=99) for index in range(2, 8)], 1, None))
    assert [e.index for e in journal.between(1, 7, 250)] == [2, 3]
    assert [e.index for e in journal.between(3, 7, 10)] == [4]
    assert [e.index for e in journal.between(5, 6, 1000)] == [6]
    assert journal.between(7, 99, 1000) == []


def heard(epoch: int, applied: int, *, started: bool = True) -> View:
    return View(epoch, started, {}, "10.0.0.9:1", 10.0, base=epoch, applied=applied)


def test_a_learner_asks_whoever_has_most_of_the_log() -> None:
    peers = Peers("l", "10.0.0.1:1", Timing())
    for name, view in {
        "a": heard(3, 10),
        "b": heard(3, 12),
        "c": heard(3, 12),
        "later": heard(4, 5),
        "learner": heard(3, 50, started=False),
        "silent": heard(3, 0),
        "behind": heard(2, 99),
    }.items():
        peers.hear(name, view)
    assert peers.teacher(3, now=10.0, avoid="", prefer="b") == "b"
    assert peers.teacher(3, now=10.0, avoid="b", prefer="b") == "c"
    assert peers.teacher(4, now=10.0, avoid="later", prefer="") == "later"
    assert peers.teacher(5, now=10.0, avoid="", prefer="") is None
    assert peers.teacher(3, now=99.0, avoid="", prefer="") is None


def test_only_learners_that_follow_the_epoch_can_lag() -> None:
    views = {
        "slow": heard(3, 7, started=False),
        "current": heard(3, 8, started=False),
        "member": heard(3, 2),
        "says nothing": heard(3, 0, started=False),
        "elsewhere": heard(2, 5, started=False),
    }
    assert lagging(3, 8, views) == ["slow"]


def test_the_only_survivor_may_be_a_learner_and_goes_on_with_all_it_copied(tmp_path: Path) -> None:
    async def follow() -> None:
        network = MemoryNetwork()
        machines = {name: Commands() for name in "ab"}
        nodes = {
            name: RaftNode(
                node_id=name,
                address=ADDRESSES[name],
                data_dir=tmp_path / name,
                state_machine=machines[name],
                transport=network.transport(name),
                clock=SystemClock(),
                timing=FAST,
            )
            for name in "ab"
        }
        await nodes["a"].start(bootstrap_members={"a": ADDRESSES["a"]})
        await until(nodes["a"].is_leader)
        await nodes["b"].start(peers={"a": ADDRESSES["a"]})
        await until(lambda: nodes["b"].status().epoch)
        for command in (b"one", b"two"):
            await nodes["a"].propose(command)
        await until(lambda: len(machines["b"].commands) == 2)
        for node in nodes.values():
            await node.stop()

    async def survive() -> Base:
        return await take_over(tmp_path / "b", "b", ADDRESSES["b"], survivor, lambda base, _: base.state)

    asyncio.run(follow())
    survivor = Commands()
    base = asyncio.run(survive())
    assert survivor.commands == [(1, "one"), (2, "two")]
    assert base.members == {"b": ADDRESSES["b"]}
