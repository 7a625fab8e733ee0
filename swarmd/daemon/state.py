"""What a node remembers of its swarm besides its certificate: addresses, managers, the gossip key."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from swarmd.control.cluster import Founding
from swarmd.model.errors import Invalid
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
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(memory))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
