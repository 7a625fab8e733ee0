"""Sealing at rest: what is sealed is opened in its place with its key, never otherwise, also after a kill."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmd.model.errors import Invalid, Unavailable
from swarmd.security import keyring
from swarmd.security.keyring import Keyring, parse_unlock_key, unlock_key_text
from swarmd.security.sealing import HEAD_BYTES, PLAIN, CannotOpen, Reader, Writer, key_id_of
from swarmd.security.vault import Locked, Vault
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.records import Corrupt, Entry, Hard, keys_used, recover
from swarmd.store.raft.snapshots import Base, Floor, SnapshotStore, encode_base
from swarmd.store.raft.wal import Wal

SECRET = b"what nobody may read"
ONE, OTHER = bytes([1]) * 32, bytes([2]) * 32


def random_of(seed: int) -> Callable[[int], bytes]:
    numbers = itertools.count(seed * 1_000_000)
    return lambda count: next(numbers).to_bytes(8, "big").rjust(count, b"\xaa")[-count:]


def test_a_piece_is_opened_in_its_place() -> None:
    piece = Writer(3, ONE, random_of(1)).seal(b"here", SECRET)
    assert SECRET not in piece
    assert Reader({2: OTHER, 3: ONE}).open(b"here", piece) == SECRET
    assert key_id_of(piece[:HEAD_BYTES]) == 3


def test_no_bit_of_a_piece_can_be_changed() -> None:
    piece = Writer(1, ONE, random_of(1)).seal(b"here", SECRET)
    reader = Reader({1: ONE})
    for position in range(len(piece)):
        for bit in (0x01, 0x80):
            harmed = bytearray(piece)
            harmed[position] ^= bit
            with pytest.raises(CannotOpen):
                reader.open(b"here", bytes(harmed))
    for length in range(len(piece)):
        with pytest.raises(CannotOpen):
            reader.open(b"here", piece[:length])


def test_a_piece_from_another_place_of_another_key_or_in_the_clear_is_refused() -> None:
    piece = Writer(1, ONE, random_of(1)).seal(b"here", SECRET)
    for reader, place, data in (
        (Reader({1: ONE}), b"there", piece),
        (Reader({1: OTHER}), b"here", piece),
        (Reader({2: ONE}), b"here", piece),
        (Reader({1: ONE}), b"here", SECRET),
        (Reader({1: ONE}), b"here", b""),
    ):
        with pytest.raises(CannotOpen):
            reader.open(place, data)
    with pytest.raises(CannotOpen, match="it is sealed"):
        PLAIN.open(b"here", piece)


def test_no_salt_and_nonce_are_used_twice() -> None:
    random = random_of(1)
    writers = [Writer(1, ONE, random) for _ in range(3)]
    heads = [writer.seal(b"here", b"the same")[:HEAD_BYTES] for _ in range(50) for writer in writers]
    assert len({head[6:] for head in heads}) == 150


def test_a_wrapped_ring_is_opened_by_its_key_alone_and_whole() -> None:
    ring = Keyring(keys={1: ONE, 2: OTHER}, followed=9)
    data = keyring.wrap(ring, ONE, by_operator=True, nonce=bytes(12))
    assert keyring.unwrap(data, ONE) == ring
    assert OTHER not in data
    with pytest.raises(CannotOpen, match="another key"):
        keyring.unwrap(data, OTHER)
    for position in range(len(data)):
        harmed = bytearray(data)
        harmed[position] ^= 1
        with pytest.raises(CannotOpen):
            keyring.unwrap(bytes(harmed), ONE)


def test_an_unlock_key_reads_as_it_was_written_and_a_bad_one_is_not_repeated() -> None:
    text = unlock_key_text(bytes(range(32)))
    assert text == "SWMKEY-1-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert parse_unlock_key(f"  {text}\n") == bytes(range(32))
    for bad in ("", text[:-1], text + "A", text.replace("SWMKEY", "SWMTKN"), "SWMKEY-1-" + "*" * 43):
        with pytest.raises(Invalid) as caught:
            parse_unlock_key(bad)
        assert str(caught.value) == "swarm could not be unlocked: invalid key provided"


# -- on disk -------------------------------------------------------------------------------------


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path / "vault")
    made.create()
    return made


def again(vault: Vault) -> Vault:
    """After a restart of the daemon."""
    return Vault(vault._directory)


def test_the_files_are_for_root_alone_and_nothing_else_is_left(vault: Vault, tmp_path: Path) -> None:
    vault.rewrap(ONE, followed=1)
    vault.rewrap(b"", followed=2)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"vault": 0o700, "keys": 0o600, "kek": 0o600}


def test_without_a_lock_it_opens_by_itself(vault: Vault) -> None:
    piece = vault.seal(b"here", SECRET)
    restarted = again(vault)
    with pytest.raises(Locked):
        restarted.open(b"here", piece)
    restarted.open_here()
    assert restarted.open(b"here", piece) == SECRET


def test_with_a_lock_only_the_operators_key_opens_it(vault: Vault) -> None:
    before = vault.seal(b"here", SECRET)
    vault.rewrap(ONE, followed=5)
    after = vault.seal(b"here", SECRET)
    assert key_id_of(before) < key_id_of(after), "a new data key seals from now on"
    restarted = again(vault)
    with pytest.raises(Locked, match="needs to be unlocked"):
        restarted.open_here()
    with pytest.raises(Invalid, match="invalid key provided"):
        restarted.unlock(OTHER)
    restarted.unlock(ONE)
    assert (restarted.open(b"here", before), restarted.open(b"here", after)) == (SECRET, SECRET)
    assert restarted.ring.followed == 5


def test_a_key_taken_back_lies_beside_again(vault: Vault) -> None:
    vault.rewrap(ONE, followed=5)
    vault.rewrap(b"", followed=6)
    restarted = again(vault)
    restarted.open_here()
    assert restarted.is_held(b"")
    assert not restarted.is_held(ONE)


def test_erasing_one_file_erases_all(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "vault" / "kek").unlink()
    with pytest.raises(Invalid, match="does not hold the key to this disk"):
        again(vault).open_here()


@pytest.mark.parametrize("change", [(ONE, b""), (b"", ONE), (ONE, OTHER), (b"", b"")])
def test_a_kill_while_the_key_changes_leaves_the_old_or_the_new(
    vault: Vault, tmp_path: Path, change: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = change
    vault.rewrap(old, followed=1)
    piece = vault.seal(b"here", SECRET)
    album: list[Path] = []

    def photograph(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def step(*given: object, **more: object) -> object:
            for moment in ("before", "after"):
                if moment == "after":
                    done = real(*given, **more)
                album.append(tmp_path / f"{len(album)}-{name}-{moment}")
                shutil.copytree(tmp_path / "vault", album[-1])
            return done

        return step

    for owner, name in ((Path, "replace"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, photograph(name, getattr(owner, name)))
    vault.rewrap(new, followed=2)
    monkeypatch.undo()
    assert len(album) >= 2
    for picture in album:
        found = Vault(picture)
        try:
            found.open_here()
        except Locked:
            found.unlock(new if keyring.fingerprint(new) == found._wrapped().fingerprint else old)
        assert found.open(b"here", piece) == SECRET, picture.name


def test_a_disk_that_takes_no_new_ring_leaves_the_old_one(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    piece = vault.seal(b"here", SECRET)
    monkeypatch.setattr("swarmd.security.durable.os.fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        vault.rewrap(ONE, followed=1)
    monkeypatch.undo()
    assert vault.is_held(b"")
    restarted = again(vault)
    restarted.open_here()
    assert restarted.open(b"here", piece) == SECRET


def test_a_key_goes_when_nothing_uses_it_and_it_is_none_of_the_newest_two(vault: Vault) -> None:
    vault.rewrap(ONE, followed=1)
    vault.rewrap(OTHER, followed=2)
    own: list[int] = [1]
    vault.also_used(lambda: own)
    vault.retain(frozenset({3}))
    assert vault.ring.keys.keys() == {1, 2, 3}
    own.clear()
    vault.retain(frozenset())
    assert vault.ring.keys.keys() == {2, 3}
    restarted = again(vault)
    restarted.unlock(OTHER)
    assert restarted.ring == vault.ring


def test_keys_stay_while_it_cannot_be_seen_who_uses_them(vault: Vault) -> None:
    def gone() -> list[int]:
        raise FileNotFoundError

    vault.rewrap(ONE, followed=1)
    vault.rewrap(OTHER, followed=2)
    vault.also_used(gone)
    vault.retain(frozenset())
    assert vault.ring.keys.keys() == {1, 2, 3}


# -- the replicated log --------------------------------------------------------------------------

ITEMS = [[Hard(1, "a"), Entry(2, 1, SECRET)], [Entry(3, 1, SECRET + b"2")], [Entry(4, 1, SECRET + b"3")]]
BASE = Base(epoch=7, members={"a": "10.0.0.1:2377"}, applied=3, sessions=[], state=SECRET)


def write_log(path: Path, vault: Vault | None) -> list[int]:
    """Write ITEMS; answers where each record begins, and the end."""
    wal = Wal(path, 7, SystemDisk(), vault or PLAIN)
    marks = [wal.size]
    for items in ITEMS:
        wal.commit(items)
        marks.append(wal.size)
    wal.close()
    return marks


def entries(path: Path, vault: Vault) -> list[Entry]:
    wal = Wal(path, 7, SystemDisk(), vault)
    wal.close()
    return wal.state.entries


def test_a_log_is_sealed_and_read_again(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "log"
    write_log(path, vault)
    assert SECRET not in path.read_bytes()
    vault.rewrap(ONE, followed=1)
    wal = Wal(path, 7, SystemDisk(), vault)
    wal.commit([Entry(5, 1, SECRET + b"4")])
    wal.close()
    assert keys_used(path.read_bytes()) == {1, 2}
    restarted = again(vault)
    restarted.unlock(ONE)
    assert [entry.index for entry in entries(path, restarted)] == [2, 3, 4, 5]


def test_a_torn_end_is_cut_off_without_a_key_and_damage_is_damage(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "log"
    marks = write_log(path, vault)
    data = path.read_bytes()
    for end in range(marks[-2], marks[-1]):
        assert recover(data[:end], 7, "log", vault).good_bytes == marks[-2]
    for position in range(marks[1], marks[2]):
        harmed = bytearray(data)
        harmed[position] ^= 0x40
        with pytest.raises(Corrupt):
            recover(bytes(harmed), 7, "log", vault)


def test_records_that_fit_by_their_checksums_are_refused_in_another_log(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "log"
    write_log(path, vault)
    other = Vault(tmp_path / "other")
    other.create()
    with pytest.raises(Corrupt, match="cannot be opened"):
        recover(path.read_bytes(), 7, "log", other)
    forged = tmp_path / "forged"
    write_log(forged, None)
    with pytest.raises(Corrupt, match=r"cannot be opened \(it is not sealed"):
        recover(forged.read_bytes(), 7, "log", vault)


def test_a_tail_written_anew_is_sealed_under_another_nonce(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "log"
    marks = write_log(path, vault)
    first = path.read_bytes()[marks[-2] :]
    path.write_bytes(path.read_bytes()[: marks[-1] - 1])
    wal = Wal(path, 7, SystemDisk(), vault)
    wal.commit(ITEMS[-1])
    wal.close()
    second = path.read_bytes()[marks[-2] :]
    assert len(first) == len(second)
    assert first[24 + 6 : 24 + HEAD_BYTES] != second[24 + 6 : 24 + HEAD_BYTES], "salt and nonce"


def test_bases_and_the_floor_are_sealed_each_for_its_epoch(vault: Vault, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "raft", SystemDisk(), vault)
    store.save(BASE)
    assert store.load(7) == BASE
    assert store.floor() == Floor(7, BASE.members)
    for path in (tmp_path / "raft").iterdir():
        assert b"10.0.0.1" not in path.read_bytes()
    assert store.for_peers(7) == encode_base(BASE), "every manager seals with keys of its own"
    assert store.for_peers(6) == b""
    shutil.copy(store.base_path(7), store.base_path(8))
    with pytest.raises(Corrupt, match="cannot be opened"):
        store.load(8)
    with pytest.raises(Corrupt, match="cannot be opened"):
        store.for_peers(8)


def test_a_disk_in_the_clear_is_read_up_to_its_epoch_and_goes_on_sealed(tmp_path: Path) -> None:
    plain = SnapshotStore(tmp_path / "raft", SystemDisk())
    plain.save(BASE)
    write_log(plain.log_path(7), None)
    vault = Vault(tmp_path / "vault")
    vault.create(plain_epochs=7)
    store = SnapshotStore(tmp_path / "raft", SystemDisk(), vault)
    assert (store.load(7), store.floor().epoch) == (BASE, 7)
    wal = Wal(store.log_path(7), 7, SystemDisk(), vault)
    wal.commit([Entry(5, 1, b"sealed from here on")])
    wal.close()
    assert b"sealed from here on" not in store.log_path(7).read_bytes()
    assert [entry.index for entry in entries(store.log_path(7), vault)] == [2, 3, 4, 5]

    store.save(Base(epoch=8, members={}, applied=4, sessions=[], state=SECRET))
    store.save(Base(epoch=9, members={}, applied=4, sessions=[], state=SECRET))
    store.discard(logs_before=9)
    assert vault.ring.plain_epochs == 0
    store.base_path(7).write_bytes(encode_base(BASE))
    with pytest.raises(Corrupt, match="it is not sealed"):
        store.load(7)
