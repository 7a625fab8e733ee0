"""Bases on their way: pieces, a transfer that breaks off, and one that goes on elsewhere."""

from __future__ import annotations

import hashlib

import pytest

from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.epochs import View
from swarmd.store.raft.peers import Peers
from swarmd.store.raft.records import Corrupt
from swarmd.store.raft.snapshots import Base, encode_base
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.transfer import Download, chunks, verified

BASE = Base(4, {"a": "10.0.0.1:2377"}, 12, [("s", 3)], b"state" * 200_000)
DATA = encode_base(BASE)
DIGEST = hashlib.sha256(DATA).hexdigest()


def pieces(request: pb.SnapshotRequest, data: bytes = DATA) -> list[pb.SnapshotChunk]:
    return list(chunks(4, data, hashlib.sha256(data).hexdigest(), request))


def test_a_base_arrives_in_pieces() -> None:
    download = Download()
    all_of_it = pieces(download.request(4))
    assert len(all_of_it) > 3
    for chunk in all_of_it[:-1]:
        download.add("b", chunk)
        assert download.take() is None
    download.add("b", all_of_it[-1])
    whole = download.take()
    assert whole == (DATA, DIGEST)
    assert verified("b", *whole) == BASE


def test_a_transfer_that_broke_off_goes_on_where_it_was_also_from_another_manager() -> None:
    download = Download()
    for chunk in pieces(download.request(4))[:2]:
        download.add("b", chunk)
    rest = pieces(download.request(4))
    assert rest[0].offset == 2 * len(rest[0].data)
    for chunk in rest:
        download.add("c", chunk)
    assert download.take() == (DATA, DIGEST)


def test_a_transfer_that_broke_off_at_its_very_end_needs_nothing_more() -> None:
    download = Download()
    for chunk in pieces(download.request(4)):
        download.add("b", chunk)
    assert pieces(download.request(4)) == []
    assert download.take() == (DATA, DIGEST)


def test_another_base_begins_anew() -> None:
    other = encode_base(Base(5, {}, 13, [], b"more" * 200_000))
    download = Download()
    download.add("b", pieces(download.request(4))[0])
    for chunk in pieces(download.request(4), other):
        download.add("c", chunk)
    assert download.take() == (other, hashlib.sha256(other).hexdigest())


def test_pieces_that_do_not_fit_are_refused_and_all_comes_again() -> None:
    download = Download()
    first, second, third = pieces(download.request(4))[:3]
    download.add("b", first)
    with pytest.raises(Corrupt, match="do not fit"):
        download.add("b", third)
    with pytest.raises(Corrupt, match="do not fit"):
        download.add("b", second)
    assert download.request(4).offset == 0


def test_a_base_that_is_not_what_its_digest_says_is_refused() -> None:
    with pytest.raises(Corrupt, match="arrived damaged"):
        verified("b", DATA[:-1] + b"x", DIGEST)


def test_the_manager_that_failed_is_asked_again_only_when_there_is_nobody_else() -> None:
    peers = Peers("a", "10.0.0.1:1", Timing())
    for name in "bc":
        peers.hear(name, View(3, True, {}, "10.0.0.2:1", heard=10.0, base=3))
    assert peers.source(2, eager=True, now=10.0) == "c"
    assert peers.source(2, eager=True, now=10.0, avoid="c") == "b"
    peers.hear("b", View(2, True, {}, "10.0.0.2:1", heard=10.0, base=2))
    assert peers.source(2, eager=True, now=10.0, avoid="c") == "c"


def test_a_base_is_not_asked_for_where_it_is_not_written_yet() -> None:
    peers = Peers("a", "10.0.0.1:1", Timing())
    peers.hear("b", View(3, True, {}, "10.0.0.2:1", heard=10.0, base=2))
    assert peers.source(2, eager=True, now=10.0) is None
