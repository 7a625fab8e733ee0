"""The file that carries a swarm: it says what it is, any change of it is seen, and a passphrase closes it."""

from __future__ import annotations

import pytest

from swarmd.model.errors import Denied, Invalid
from swarmd.rpc import snapshot_file
from swarmd.rpc.snapshot_file import Header
from swarmd.security import passphrase

HEADER = Header(
    swarmd="0.1.0", cluster_id="c1", created_at=1.8e9, index=42, epoch=3, counts={"service": 1, "node": 2}
)
ROWS = b"the rows of a swarm"
WORDS = b"correct horse"


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return passphrase.seal(snapshot_file.encode(HEADER, ROWS), WORDS)


def test_what_was_written_is_read() -> None:
    assert snapshot_file.decode(snapshot_file.encode(HEADER, ROWS), "f") == (HEADER, ROWS)
    assert snapshot_file.decode(snapshot_file.encode(HEADER, b""), "f") == (HEADER, b"")


def test_no_bit_can_change_unseen() -> None:
    data = snapshot_file.encode(HEADER, ROWS)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x40
        with pytest.raises(Invalid, match=r"my\.snapshot"):
            snapshot_file.decode(bytes(changed), "my.snapshot")


def test_a_file_cut_off_anywhere_or_too_long_is_refused() -> None:
    data = snapshot_file.encode(HEADER, ROWS)
    for size in range(len(data)):
        with pytest.raises(Invalid, match=r"cut off|no snapshot|damaged"):
            snapshot_file.decode(data[:size], "f")
    with pytest.raises(Invalid, match="damaged"):
        snapshot_file.decode(data + b"\x00", "f")


def test_a_newer_format_names_the_version_that_reads_it() -> None:
    newer = Header(format=2, swarmd="9.9.0", cluster_id="c1", created_at=0.0, index=0, epoch=0, counts={})
    with pytest.raises(Invalid, match=r"format 2, written by swarmd 9\.9\.0"):
        snapshot_file.decode(snapshot_file.encode(newer, b""), "f")


def test_only_who_knows_the_passphrase_opens_it(sealed: bytes) -> None:
    assert passphrase.is_sealed(sealed)
    assert ROWS not in sealed
    assert b"c1" not in sealed
    assert snapshot_file.decode(passphrase.unseal(sealed, WORDS, "f"), "f") == (HEADER, ROWS)
    with pytest.raises(Denied, match=r"f cannot be opened: the passphrase is wrong"):
        passphrase.unseal(sealed, b"wrong horses", "f")


@pytest.mark.parametrize("at", [11, 27, 40, -1])
def test_a_sealed_file_that_was_changed_does_not_open(sealed: bytes, at: int) -> None:
    changed = bytearray(sealed)
    changed[at] ^= 1
    with pytest.raises(Denied):
        passphrase.unseal(bytes(changed), WORDS, "f")


def test_a_file_may_not_ask_for_all_of_a_machine_s_memory(sealed: bytes) -> None:
    greedy = bytearray(sealed)
    greedy[8] = 40
    with pytest.raises(Invalid, match="make no sense"):
        passphrase.unseal(bytes(greedy), WORDS, "f")


def test_equal_snapshots_are_sealed_differently_each_time(sealed: bytes) -> None:
    assert passphrase.seal(snapshot_file.encode(HEADER, ROWS), WORDS) != sealed


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(Invalid, match="at least 8"):
        passphrase.seal(b"x", b"short")
