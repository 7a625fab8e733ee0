"""Everything on disk that makes a node part of a swarm: it is in or out, also after a crash at any point.

in:   vault/, identity/, then node.json: a node with the three is in
out:  node.json becomes ``leaving``, everything goes, that last: a node with it is out
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from swarmd.daemon.state import MemoryFile, NodeMemory
from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.agent import taskdb
from swarmd.security.durable import sync_directory
from swarmd.security.identity import Credentials, IdentityStore
from swarmd.security.sealing import IN_THE_CLEAR
from swarmd.security.vault import Vault
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.snapshots import SnapshotStore

_FILES = (
    "tasks.db", "tasks.db-wal", "tasks.db-shm", "tasks.spare", "mesh.json", "mesh.json.new", "node.json.new",
    "trust.json", "trust.json.new",
)  # fmt: skip
_WAY_OUT = "restore it from a backup, or run `swarmctl swarm leave --force` and join again"


class OnDisk:
    """The part of the data directory that one membership owns."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._leaving = data / "leaving"
        self._tasks = data / "tasks.db"
        self.vault = Vault(data / "vault")
        self.identity = IdentityStore(data / "identity", self.vault)
        self.memory = MemoryFile(data / "node.json", self.vault)
        self.vault.also_used(self._keys_used)

    def load(self) -> tuple[Credentials, NodeMemory] | None:
        """The membership; None outside of a swarm.  What a crash interrupted is finished first.

        Raises Locked when the operator holds the key, Invalid when something is damaged or missing,
        Unavailable when the disk takes no change.
        """
        if self._leaving.exists():
            self.wipe()
        if not self.vault.exists:
            if not (self._data / "node.json").exists():
                self._check_outside()
                return None
            if self.memory.key_used() == IN_THE_CLEAR:  # a release that sealed nothing wrote it
                self.vault.create(plain_epochs=_epochs_in_the_clear(self._data / "raft"), settled=False)
        if not self.vault.is_open:
            self.vault.open_here()
        found = self._load()
        if found is not None and not self.vault.ring.settled:
            self._seal(*found)
            taskdb.seal_all(self._tasks, self.vault)
            self.vault.settle()
        return found

    def _keys_used(self) -> set[int]:
        return {self.identity.key_used(), self.memory.key_used(), *taskdb.keys_used(self._tasks)}

    def _check_outside(self) -> None:
        if (self._data / "raft").exists() and self.identity.exists():
            raise Invalid(f"{self._data / 'node.json'} is missing: {_WAY_OUT}")
        with self._removing():
            self._remove_pieces()  # of a membership that a crash kept from beginning

    def _load(self) -> tuple[Credentials, NodeMemory] | None:
        credentials, memory = self.identity.load(), self.memory.load()
        if memory is not None and memory.restoring:
            self.wipe()
            return None
        if memory is None:
            self._check_outside()
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
        self.vault.create()
        self._seal(credentials, memory)

    def _seal(self, credentials: Credentials, memory: NodeMemory) -> None:
        self.identity.save(credentials)
        self.memory.save(memory)

    def wipe(self) -> None:
        """From now on this node is out.  Raises Unavailable; what is left goes at the next try or start."""
        with self._removing():
            if (self._data / "node.json").exists():
                (self._data / "node.json").rename(self._leaving)  # also on a full disk
            elif not self._leaving.exists():
                self._leaving.touch(mode=0o600)
            sync_directory(self._data)
            if (self._data / "raft").exists():
                shutil.rmtree(self._data / "raft")
            self._remove_pieces()
            sync_directory(self._data)
            self._leaving.unlink()

    def _remove_pieces(self) -> None:
        self.vault.remove()
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


def _epochs_in_the_clear(raft: Path) -> int:
    """Pieces up to this epoch may be unsealed, the floor of a manager that was demoted with them."""
    if not raft.exists():
        return 0
    return max([int((raft / "floor").exists()), *SnapshotStore(raft, SystemDisk()).epochs()])
