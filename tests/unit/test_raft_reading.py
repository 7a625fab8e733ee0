"""A manager's state, only looked at: what is in it, what is wrong with it, how far it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmd.model.replace import replace
from swarmd.security.sealing import Sealer
from swarmd.store.raft import reading
from swarmd.store.raft.envelope import Command, Envelope, Seal, encode_envelope
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.journal import NO_OP, REGULAR
from swarmd.store.raft.offline import begin_from
from swarmd.store.raft.reading import examine, look, replay
from swarmd.store.raft.records import Entry, Marker
from swarmd.store.raft.snapshots import Base, Floor, SnapshotStore
from swarmd.store.raft.wal import Wal
from tests.unit.test_raft_group import ADDRESSES, Group, Journal


def same(one: bytes, other: bytes) -> bool:
    return bool(json.loads(one) == json.loads(other))


def problems(directory: Path) -> list[str]:
    return [problem.text for problem in examine(look(directory), Journal, same)]


@pytest.fixture
async def stopped(tmp_path: Path) -> Path:
    """What is left of a manager that began, agreed on three changes, rolled its epoch, and on two more."""
    group = Group(tmp_path)
    node = await group.found("a", roll_entries=3)
    for word in (b"v", b"w", b"x", b"y", b"z"):
        await node.propose(word)
    await group.kill("a")
    return tmp_path / "a"


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def log_of(directory: Path) -> Path:
    return max(directory.glob("log-*.wal"))


async def test_looking_changes_nothing_and_finds_everything(stopped: Path) -> None:
    before = files(stopped)
    picture = look(stopped)
    assert picture.problems == ()
    assert picture.newest is not None
    assert picture.newest.base.members == {"a": ADDRESSES["a"]}
    assert picture.floor.epoch == max(picture.bases)
    found = replay(picture.newest.base, picture.chain, Journal())
    assert [word for _, word in json.loads(found.base.state)] == ["v", "w", "x", "y", "z"]
    assert found.base.applied == 5
    assert problems(stopped) == []
    assert files(stopped) == before


async def test_every_flipped_byte_of_a_log_is_found_and_named(stopped: Path) -> None:
    log = log_of(stopped)
    whole = log.read_bytes()
    assert len(whole) > 100
    for at in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[at] ^= 0x20
        log.write_bytes(bytes(changed))
        found = problems(stopped)
        assert found, f"byte {at}"
        assert log.name in found[0]
        assert "damaged at byte" in found[0]


async def test_every_flipped_byte_of_a_snapshot_is_found_and_named(stopped: Path) -> None:
    snapshot = max(stopped.glob("base-*.snapshot"))
    whole = snapshot.read_bytes()
    for at in range(0, len(whole), 5):
        changed = bytearray(whole)
        changed[at] ^= 0x20
        snapshot.write_bytes(bytes(changed))
        assert [snapshot.name in text for text in problems(stopped)] == [True], f"byte {at}"


async def test_a_write_that_a_crash_cut_short_is_no_damage(stopped: Path) -> None:
    log = log_of(stopped)
    whole = log.read_bytes()
    log.write_bytes(whole[:-3])
    assert problems(stopped) == []
    picture = look(stopped)
    assert picture.chain[-1].good_bytes < picture.chain[-1].size
    assert log.read_bytes() == whole[:-3], "it is not cut off either"


async def test_a_log_without_its_snapshot_and_a_floor_above_everything_are_told(stopped: Path) -> None:
    kept = files(stopped)
    for path in stopped.glob("base-*.snapshot"):
        path.unlink()
    assert ".snapshot is missing" in " ".join(problems(stopped))
    for name, data in kept.items():
        (stopped / name).write_bytes(data)
    assert problems(stopped) == []
    log_of(stopped).unlink()
    max(stopped.glob("base-*.snapshot")).unlink()
    assert "newer files are missing" in " ".join(problems(stopped))


async def test_an_epoch_that_rolls_while_it_is_looked_at_is_no_problem(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = SnapshotStore(stopped, SystemDisk()), reading.open_floor
    newest = store.load(max(store.epochs()))

    def rolling(data: bytes, name: str, sealer: Sealer) -> Floor:
        following = max(store.epochs()) + 1
        if following < newest.epoch + 3:
            store.save(replace(newest, epoch=following))
            data = (stopped / "floor").read_bytes()
        return read(data, name, sealer)

    monkeypatch.setattr(reading, "open_floor", rolling)
    assert problems(stopped) == []


def sealed_epoch(directory: Path) -> SnapshotStore:
    """The first epoch of one manager: one change, then the seal."""
    disk, members = SystemDisk(), {"a": ADDRESSES["a"]}
    store = SnapshotStore(directory, disk)
    store.save(Base(1, members, 0, [], b"[]"))
    log = Wal(store.log_path(1), 1, disk)
    proposals = [Envelope("s", 1, Command(b"x")), Envelope("s", 2, Seal(members))]
    log.commit([Entry(2, 1, NO_OP)])
    log.commit([Entry(n, 1, REGULAR + encode_envelope(one)) for n, one in enumerate(proposals, 3)])
    log.close()
    return store


def test_a_snapshot_that_does_not_follow_from_the_one_before_is_told(tmp_path: Path) -> None:
    members = {"a": ADDRESSES["a"]}
    store = sealed_epoch(tmp_path)
    second = Base(2, members, 1, [("s", 1)], b'[[1, "x"]]')
    store.save(second)
    assert problems(tmp_path) == []
    for wrong in (replace(second, state=b'[[1, "y"]]'), replace(second, members={"b": "10.0.0.2:2377"})):
        store.save(wrong)
        (told,) = problems(tmp_path)
        assert store.base_path(2).name in told
        assert "differs from the others" in told


async def test_the_one_with_the_later_epoch_then_term_then_entry_is_more_current(stopped: Path) -> None:
    before = look(stopped).position
    log = log_of(stopped)
    whole = log.read_bytes()
    log.write_bytes(whole[:-3])
    assert look(stopped).position < before
    log.write_bytes(whole)
    await begin_from(stopped, "a", ADDRESSES["a"], epoch=1, index=9, state=b"[]")
    assert look(stopped).position > before


async def test_what_is_begun_from_a_snapshot_comes_after_all_that_was_there(stopped: Path) -> None:
    floor = look(stopped).floor.epoch
    base = await begin_from(stopped, "a", ADDRESSES["a"], epoch=1, index=9, state=b'[[9, "s"]]')
    assert base.epoch > floor
    assert problems(stopped) == []
    group = Group(stopped.parent)
    node = await group.restart("a")
    await group.led()
    assert group.machines["a"].commands == [(9, "s")]
    assert await node.propose(b"t") == "10:t"
    await group.kill("a")


def test_an_epoch_that_has_begun_and_has_no_snapshot_yet_is_in_order(tmp_path: Path) -> None:
    members = {"a": ADDRESSES["a"]}
    store = sealed_epoch(tmp_path)
    marker = Marker(2, members, 1, [("s", 1)], 4)
    log = Wal(store.log_path(2), 2, SystemDisk(), marker=marker)
    log.commit([Entry(2, 1, REGULAR + encode_envelope(Envelope("s", 3, Command(b"y"))))])
    log.close()
    picture = look(tmp_path)
    assert problems(tmp_path) == []
    assert picture.position == (2, 1, 2)
    assert picture.newest is not None
    found = replay(picture.newest.base, picture.chain, Journal()).base
    assert (found.epoch, found.members, json.loads(found.state)) == (2, members, [[1, "x"], [2, "y"]])


def test_an_epoch_that_began_elsewhere_than_the_log_before_leads_to_is_told(tmp_path: Path) -> None:
    store = sealed_epoch(tmp_path)
    Wal(store.log_path(2), 2, SystemDisk(), marker=Marker(2, {"b": "x:1"}, 1, [("s", 1)], 4)).close()
    (told,) = problems(tmp_path)
    assert store.log_path(2).name in told
