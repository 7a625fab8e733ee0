"""When a manager takes no more changes for want of space, and when again."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Unavailable
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.memory import MemoryNetwork
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.space import Space
from tests.unit.test_raft_group import ADDRESSES, FAST, Journal, until

MIB = 1 << 20
DIRECTORY = Path("/var/lib/swarmd/raft")


def refuses(space: Space) -> bool:
    try:
        space.admit()
    except Unavailable:
        return True
    return False


@pytest.mark.parametrize(
    ("total", "reserve", "low"),
    [(100_000 * MIB, None, 256 * MIB), (1000 * MIB, None, 50 * MIB), (1000 * MIB, 10 * MIB, 10 * MIB)],
)
def test_changes_are_refused_below_the_reserve_and_taken_again_from_a_quarter_more(
    total: int, reserve: int | None, low: int
) -> None:
    space = Space(DIRECTORY, reserve)
    for free, refused in [
        (low, False),
        (low - 1, True),
        (low, True),
        (low * 5 // 4 - 1, True),
        (low * 5 // 4, False),
        (low, False),
        (0, True),
    ]:
        space.saw(free, total)
        assert refuses(space) == refused, free


def test_the_sentence_names_the_directory_and_says_what_to_do() -> None:
    space = Space(DIRECTORY, 100 * MIB)
    space.saw(40 * MIB, 1000 * MIB)
    with pytest.raises(
        Unavailable, match=r"/var/lib/swarmd/raft has 40 MiB .* Free some there; from 125 MiB on"
    ):
        space.admit()


def test_a_reserve_of_nothing_never_refuses() -> None:
    space = Space(DIRECTORY, 0)
    space.saw(0, 1000 * MIB)
    assert not refuses(space)


def test_the_disk_knows_how_much_is_free(tmp_path: Path) -> None:
    free, total = SystemDisk().free(tmp_path)
    assert 0 < free <= total


@pytest.mark.usefixtures("skipping_time")
async def test_everybody_knows_whose_disk_is_nearly_full(tmp_path: Path) -> None:
    network = MemoryNetwork()
    nodes = {
        name: RaftNode(
            node_id=name,
            address=ADDRESSES[name],
            data_dir=tmp_path / name,
            state_machine=Journal(),
            transport=network.transport(name),
            clock=SystemClock(),
            timing=FAST,
            reserve=1 << 60 if name == "b" else 0,
        )
        for name in "abc"
    }
    try:
        for node in nodes.values():
            await node.start(bootstrap_members={name: ADDRESSES[name] for name in "abc"})
        await until(lambda: all(node.status().short == {"b"} for node in nodes.values()))
    finally:
        for node in nodes.values():
            await node.stop()
