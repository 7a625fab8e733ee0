"""Bases and the floor: what a member must find again after a crash, besides the log.

A base is the state an epoch starts from, with its members.  The floor is the highest epoch this machine ever
held; it outlives the bases, so that a machine that left and was wiped never takes part in an old epoch anew.
Blocking; call in a thread.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from pathlib import Path

import msgspec

from swarmd.model.errors import SwarmError
from swarmd.security.sealing import HEAD_BYTES, PLAIN, CannotOpen, Sealer, key_id_of
from swarmd.store.raft.files import Disk, disk_failed, replace_file
from swarmd.store.raft.records import Corrupt, keys_used

_FILE = struct.Struct(">8sI32s")
_MAGIC = b"SWRMBAS1"
_NAME = re.compile(r"base-(\d{12})\.snapshot")
_LOG_NAME = re.compile(r"log-(\d{12})\.wal")
_FLOOR = struct.Struct(">8sI")
_FLOOR_MAGIC = b"SWRMFLR1"
_FLOOR_PLACE = b"floor"
_KEEP = 2


class Base(msgspec.Struct, frozen=True):
    """Where ``epoch`` begins.

    ``members`` maps node id to ``ip:port``; ``applied`` is the count of commands in ``state``; ``sessions``
    holds the newest applied sequence of each proposing session, oldest first.
    """

    epoch: int
    members: dict[str, str]
    applied: int
    sessions: list[tuple[str, int]]
    state: bytes


class Floor(msgspec.Struct, frozen=True):
    """The highest epoch ever held here, and its members, so that a straggler can be told whom to ask.

    ``left``: this machine left at that epoch; whatever else it still has on its disk counts no more.
    """

    epoch: int = 0
    members: dict[str, str] = {}
    left: bool = False


def encode_floor(floor: Floor) -> bytes:
    """The bytes of the floor file: magic, CRC-32, JSON."""
    body = msgspec.json.encode(floor)
    return _FLOOR.pack(_FLOOR_MAGIC, zlib.crc32(body)) + body


def decode_floor(data: bytes, name: str) -> Floor:
    """The floor in ``data``; swarmd 0.1 wrote the JSON alone.  Raises Corrupt."""
    try:
        if data[:1] == b"{":
            return msgspec.json.decode(data, type=Floor)
        magic, crc = _FLOOR.unpack_from(data)
        body = data[_FLOOR.size :]
        if magic == _FLOOR_MAGIC and crc == zlib.crc32(body):
            return msgspec.json.decode(body, type=Floor)
        why = "its checksum is wrong"
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        why = str(error)
    raise Corrupt(f"The file {name} is damaged: {why}. Join again under a new id.")


def encode_base(base: Base, sealer: Sealer = PLAIN) -> bytes:
    """The bytes of a base file; without a sealer, as they cross the network, the same on every member."""
    return _framed(sealer.seal(_place(base.epoch), msgspec.msgpack.encode(base)))


def decode_base(data: bytes, name: str, sealer: Sealer = PLAIN, *, epoch: int = 0) -> Base:
    """The base in ``data``; raises Corrupt when a bit of it is not as written.

    ``epoch``: the one it is kept for, when it is sealed.
    """
    try:
        return msgspec.msgpack.decode(_opened(data, name, sealer, epoch), type=Base)
    except msgspec.DecodeError as error:
        raise Corrupt(f"The snapshot {name} cannot be understood: {error}.") from error


def _framed(body: bytes) -> bytes:
    return _FILE.pack(_MAGIC, len(body), hashlib.sha256(body).digest()) + body


def _opened(data: bytes, name: str, sealer: Sealer, epoch: int) -> bytes:
    if len(data) < _FILE.size:
        raise Corrupt(f"The snapshot {name} is too short ({len(data)} bytes).")
    magic, length, digest = _FILE.unpack_from(data)
    body = data[_FILE.size :]
    if magic != _MAGIC or len(body) != length or hashlib.sha256(body).digest() != digest:
        raise Corrupt(
            f"The snapshot {name} is damaged: its checksum is wrong. "
            "Remove this manager from the swarm and join it again."
        )
    try:
        return sealer.open(_place(epoch), body, epoch=epoch)
    except CannotOpen as error:
        raise Corrupt(f"The snapshot {name} cannot be opened: {error}.") from error


def _place(epoch: int) -> bytes:
    return b"base" + epoch.to_bytes(8, "big")


def open_floor(data: bytes, name: str, sealer: Sealer) -> Floor:
    """The floor in the bytes of its file.  Raises Corrupt."""
    try:
        return decode_floor(sealer.open(_FLOOR_PLACE, data, epoch=1), name)
    except CannotOpen as error:
        raise Corrupt(f"The file {name} is damaged: {error}. Join again under a new id.") from error


class SnapshotStore:
    """The bases, logs and floor of one member in ``directory``."""

    def __init__(self, directory: Path, disk: Disk, sealer: Sealer = PLAIN) -> None:
        self._directory = directory
        self._disk = disk
        self.sealer = sealer
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            disk.sync_directory(directory.parent)
            # What a killed process renamed and did not sync must not be taken for durable.
            disk.sync_directory(directory)
        except OSError as error:
            raise disk_failed(directory, error) from error

    @property
    def directory(self) -> Path:
        return self._directory

    def log_path(self, epoch: int) -> Path:
        return self._directory / f"log-{epoch:012d}.wal"

    def base_path(self, epoch: int) -> Path:
        return self._directory / f"base-{epoch:012d}.snapshot"

    def epochs(self) -> list[int]:
        """The epochs whose bases are here, oldest first."""
        return self._numbers(_NAME)

    def logs(self) -> list[int]:
        """The epochs whose logs are here, oldest first."""
        return self._numbers(_LOG_NAME)

    def _numbers(self, pattern: re.Pattern[str]) -> list[int]:
        found = (pattern.fullmatch(path.name) for path in self._directory.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def load(self, epoch: int) -> Base:
        """The base of ``epoch``; raises Corrupt."""
        path = self.base_path(epoch)
        base = decode_base(path.read_bytes(), str(path), self.sealer, epoch=epoch)
        if base.epoch != epoch:
            raise Corrupt(f"The snapshot {path} says it is of epoch {base.epoch}.")
        return base

    def for_peers(self, epoch: int) -> bytes:
        """The base of ``epoch`` as it crosses the network; empty when it is gone by now.  Raises Corrupt."""
        path = self.base_path(epoch)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return b""
        return _framed(_opened(data, str(path), self.sealer, epoch))

    def save(self, base: Base) -> None:
        """Make ``base`` durable, and then the floor.  Raises DiskFailed."""
        replace_file(self.base_path(base.epoch), encode_base(base, self.sealer), self._disk)
        self.raise_floor(Floor(base.epoch, base.members))

    def raise_floor(self, floor: Floor) -> None:
        """Remember that the epoch of ``floor`` was held here.  Raises DiskFailed."""
        if floor.epoch > self.floor().epoch:
            self.save_floor(floor)

    def floor(self) -> Floor:
        """The floor; epoch 0 on a machine that never held any.  Raises Corrupt."""
        path = self._directory / "floor"
        return open_floor(path.read_bytes(), str(path), self.sealer) if path.exists() else Floor()

    def save_floor(self, floor: Floor) -> None:
        """Make ``floor`` durable.  Raises DiskFailed, SwarmError when it would sink."""
        if floor.epoch < self.floor().epoch:
            raise SwarmError(f"The floor cannot go back to epoch {floor.epoch}.")
        data = self.sealer.seal(_FLOOR_PLACE, encode_floor(floor))
        replace_file(self._directory / "floor", data, self._disk)

    def discard(self, *, logs_before: int) -> None:
        """Drop logs of epochs before ``logs_before``, and all but the newest two bases."""
        for epoch in self.epochs()[:-_KEEP]:
            self._disk.remove(self.base_path(epoch))
        for path in self._directory.glob("log-*.wal"):
            if path < self.log_path(logs_before):
                self._disk.remove(path)
        self.sealer.retain(frozenset(self._keys_used()))

    def _keys_used(self) -> set[int]:
        """Ids of the data keys that sealed what is left."""
        bases = {_key_at(self.base_path(epoch), _FILE.size) for epoch in self.epochs()}
        logs = [keys_used(path.read_bytes()) for path in self._directory.glob("log-*.wal")]
        return bases.union(*logs, {_key_at(path, 0) for path in self._directory.glob("floor")})

    def wipe(self, floor: Floor) -> None:
        """Forget everything but that this machine held ``floor`` and left.  Raises DiskFailed."""
        self.save_floor(msgspec.structs.replace(floor, left=True))
        for path in (*self._directory.glob("base-*"), *self._directory.glob("log-*")):
            self._disk.remove(path)
        self._disk.sync_directory(self._directory)


def _key_at(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        file.seek(offset)
        return key_id_of(file.read(HEAD_BYTES))
