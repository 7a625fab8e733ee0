"""What a node remembers of its swarm besides its certificate: addresses, managers, the gossip key."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from swarmd.control.cluster import Founding
from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.agent.core.remotes import Remote


class NodeMemory(msgspec.Struct, frozen=True, kw_only=True):
    """``founding``: the first rows of a swarm that this node began and has not stored yet."""

    node_id: str
    cluster_id: str
    address: str
    listen: str = "0.0.0.0"
    availability: str = "active"
    managers: tuple[Remote, ...] = ()
    gossip_key: bytes = b""
    seeds: tuple[str, ...] = ()
    number: int = 0
    founding: Founding | None = None


class MemoryFile:
    """``<data dir>/node.json``, replaced whole and durably."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def directory(self) -> Path:
        """The data directory."""
        return self._path.parent

    def load(self) -> NodeMemory | None:
        """None when the node is part of no swarm.  Raises Invalid when the file is damaged."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=NodeMemory)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise Invalid(
                f"{self._path} is damaged ({error}): restore it from a backup, "
                "or remove the data directory and join again"
            ) from error

    def save(self, memory: NodeMemory) -> None:
        """Raises Unavailable when the disk does not take it: the file is as before then."""
        write_durably(self._path, msgspec.json.encode(memory))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file, for root only: whoever reads it, also after a crash, finds the old or the new.

    Raises Unavailable, naming the file.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
