"""What earlier versions wrote is read for ever: files in tests/data, made once by that version itself."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest

from swarmd.model.objects import Cluster
from swarmd.rpc.frames import read_frame
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.core.transaction import KINDS
from swarmd.store.raft.envelope import Barrier, Command, Seal, decode_envelope
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.snapshots import SnapshotStore
from swarmd.store.raft.wal import LogState, Wal
from swarmd.store.store import StoreState

DATA = Path(__file__).parent.parent / "data"
ROWS = {kind.__name__: kind for kind in KINDS.values()}


def expected_rows(version: str) -> list[object]:
    """The rows that version held, with today's defaults for what it did not know."""
    listed = msgspec.json.decode((DATA / version / "rows.json").read_bytes())
    rows: list[object] = []
    for name, fields in listed:
        row = msgspec.convert(fields, ROWS[name])
        # Only a cluster row says at which level it was written, and those of 0.1.0 do not say it.
        rows.append(msgspec.structs.replace(row, feature_level=0) if isinstance(row, Cluster) else row)
    return rows


def log_of(version: str, directory: Path) -> LogState:
    path = directory / "log"
    shutil.copy(DATA / version / "log.bin", path)
    wal = Wal(path, 3, SystemDisk())
    wal.close()
    return wal.state


@pytest.mark.parametrize("version", ["0.1.0"])
def test_a_snapshot_is_read(version: str) -> None:
    state = StoreState()
    state.restore(2, (DATA / version / "snapshot.bin").read_bytes())
    assert state.tables.rows() == expected_rows(version)


@pytest.mark.parametrize("version", ["0.1.0"])
def test_a_log_is_read_and_leads_to_the_same_rows(version: str, tmp_path: Path) -> None:
    found = log_of(version, tmp_path)
    assert (found.term, found.vote, [entry.index for entry in found.entries]) == (2, "n1", [2, 3, 4, 5, 6])
    bodies = [decode_envelope(entry.command[1:]).body for entry in found.entries[1:]]
    state = StoreState()
    for index, body in enumerate(bodies[:2], 1):
        assert isinstance(body, Command)
        assert not state.apply(index, body.data).error_kind
    assert state.tables.rows() == expected_rows(version)
    assert bodies[2:] == [Barrier(), Seal({"n1": "10.0.0.1:2377", "n2": "10.0.0.2:2377"})]


@pytest.mark.parametrize("version", ["0.1.0"])
def test_the_base_of_an_epoch_is_read(version: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / version / "raft", tmp_path / "raft")
    store = SnapshotStore(tmp_path / "raft", SystemDisk())
    base = store.load(4)
    assert (base.epoch, base.members, base.applied, base.sessions) == (
        4, {"n1": "10.0.0.1:2377"}, 2, [("session", 2)],
    )  # fmt: skip
    assert base.state == (DATA / version / "snapshot.bin").read_bytes()


@pytest.mark.parametrize("version", ["0.1.0"])
async def test_what_was_said_between_managers_is_understood(version: str) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data((DATA / version / "frames.bin").read_bytes())
    reader.feed_eof()
    frames = []
    while (frame := await read_frame(reader)) is not None:
        frames.append(frame)
    kinds = [frame.WhichOneof("body") for frame in frames]
    assert kinds == ["hello", "raft", "status", "pre_vote_request", "kick"]
    append, answer = frames[1].raft.messages
    assert (append.type, append.term, append.commit_index) == (pb.RaftMessage.TYPE_APPEND_ENTRIES, 2, 5)
    assert decode_envelope(append.entries[0].command[1:]).sequence == 1
    assert (answer.next_index, answer.success) == (3, True)
    assert {m.node_id: m.address for m in frames[2].status.members} == {"n1": "10.0.0.1:2377"}
