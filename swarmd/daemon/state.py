"""What a node remembers of its swarm besides its certificate, sealed: addresses, managers, the gossip key."""

from __future__ import annotations

from pathlib import Path

import msgspec

from swarmd.control.cluster import Founding
from swarmd.model.errors import Invalid
from swarmd.node.agent.core.remotes import Remote
from swarmd.security.durable import write_durably
from swarmd.security.sealing import PLAIN, CannotOpen, Sealer, key_id_of


class NodeMemory(msgspec.Struct, frozen=True, kw_only=True):
    """``founding``: the first rows of a swarm that this node began and has not stored yet.

    ``restoring``: a snapshot is being restored here; a node found so after a crash is in no swarm.
    """

    node_id: str
    cluster_id: str
    address: str
    listen: str = "0.0.0.0"
    availability: str = "active"
    managers: tuple[Remote, ...] = ()
    gossip_key: bytes = b""
    gossip_also: tuple[bytes, ...] = ()
    seeds: tuple[str, ...] = ()
    number: int = 0
    founding: Founding | None = None
    chosen: str = ""
    restoring: bool = False


_PLACE = b"node.json"


class MemoryFile:
    """``<data dir>/node.json``, sealed, replaced whole and durably."""

    def __init__(self, path: Path, sealer: Sealer = PLAIN) -> None:
        self._path = path
        self._sealer = sealer

    @property
    def directory(self) -> Path:
        """The data directory."""
        return self._path.parent

    def load(self) -> NodeMemory | None:
        """None when the node is part of no swarm.  Raises Invalid when the file is damaged."""
        try:
            data = self._sealer.open(_PLACE, self._path.read_bytes())
            return msgspec.json.decode(data, type=NodeMemory)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, CannotOpen) as error:
            raise Invalid(
                f"{self._path} is damaged ({error}): restore it from a backup, "
                "or remove the data directory and join again"
            ) from error

    def save(self, memory: NodeMemory) -> None:
        """Raises Unavailable when the disk does not take it: the file is as before then."""
        write_durably(self._path, self._sealer.seal(_PLACE, msgspec.json.encode(memory)))

    def key_used(self) -> int:
        """The id of the data key that sealed the file.  Raises OSError."""
        return key_id_of(self._path.read_bytes())

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
