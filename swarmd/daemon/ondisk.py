"""Everything on disk that makes a node part of a swarm: it is in or out, also after a crash at any point.

in:   identity/, then node.json: a node with both is in
out:  node.json becomes ``leaving``, everything goes, that last: a node with it is out
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from swarmd.daemon.state import MemoryFile, NodeMemory
from swarmd.model.errors import Invalid, Unavailable
from swarmd.security.identity import Credentials, IdentityStore

_FILES = ("tasks.db", "tasks.db-wal", "tasks.db-shm", "mesh.json", "mesh.json.new", "node.json.new")
_WAY_OUT = "restore it from a backup, or run `swarmctl swarm leave --force` and join again"


class OnDisk:
    """The part of the data directory that one membership owns."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._leaving = data / "leaving"
        self.identity = IdentityStore(data / "identity")
        self.memory = MemoryFile(data / "node.json")

    def load(self) -> tuple[Credentials, NodeMemory] | None:
        """The membership; None outside of a swarm.  What a crash interrupted is finished first.

        Raises Invalid when something is damaged or missing, Unavailable when the disk takes no change.
        """
        if self._leaving.exists():
            self.wipe()
        credentials, memory = self.identity.load(), self.memory.load()
        if memory is None:
            if credentials is not None and (self._data / "raft").exists():
                raise Invalid(f"{self._data / 'node.json'} is missing: {_WAY_OUT}")
            with self._removing():
                self._remove_pieces()  # of a membership that a crash kept from beginning
            return None
        if credentials is None:
            raise Invalid(f"{self._data / 'identity'} is missing: {_WAY_OUT}")
        identity = credentials.identity
        if (identity.node_id, identity.cluster_id) != (memory.node_id, memory.cluster_id):
            raise Invalid(
                f"the data directory mixes two swarms: its certificate is of node {identity.node_id} in "
                f"swarm {identity.cluster_id}, its memory of node {memory.node_id} in swarm "
                f"{memory.cluster_id}. "
                "Restore one backup as a whole, or run `swarmctl swarm leave --force` and join again"
            )
        return credentials, memory

    def save(self, credentials: Credentials, memory: NodeMemory) -> None:
        """From now on this node is in.  Raises Unavailable: it is not."""
        try:
            self.identity.save(credentials)
        except OSError as error:
            raise Unavailable(f"{self._data / 'identity'} cannot be written: {error.strerror}") from error
        self.memory.save(memory)

    def wipe(self) -> None:
        """From now on this node is out.  Raises Unavailable; what is left goes at the next try or start."""
        with self._removing():
            if (self._data / "node.json").exists():
                (self._data / "node.json").rename(self._leaving)  # also on a full disk
            elif not self._leaving.exists():
                self._leaving.touch(mode=0o600)
            _sync(self._data)
            if (self._data / "raft").exists():
                shutil.rmtree(self._data / "raft")
            self._remove_pieces()
            _sync(self._data)
            self._leaving.unlink()

    def _remove_pieces(self) -> None:
        self.identity.remove()
        for name in _FILES:
            (self._data / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _removing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(
                f"the old membership in {self._data} cannot be removed: {error.strerror} ({error.filename})"
            ) from error


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
