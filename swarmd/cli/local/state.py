"""Where local clusters are written down: one directory each, ``cluster.json`` in it.

Everything is written before it is made, so that ``down`` finds it after a crash.  Two commands never change
the same cluster at once: the directory is locked (by the kernel, so a killed command holds nothing).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import msgspec

from swarmd.cli.local.core import plan
from swarmd.cli.local.core.plan import Cluster, Node, Paths
from swarmd.cli.local.host import mounts_below
from swarmd.cli.local.waiting import until
from swarmd.model.errors import Conflict, NotFound, Refused, Unavailable

DEFAULT_ROOT = "/var/lib/swarmd-local"
_MEETING = "/run/swarmd-local"
_LOCK_SECONDS = 60.0


@contextmanager
def _locked(directory: Path, *, busy: str) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not until(lambda: _try_lock(fd), seconds=_LOCK_SECONDS, every=0.1):
            raise Refused(busy)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def choosing_network() -> AbstractContextManager[None]:
    """One command of this machine at a time, whatever its root: what one has chosen the next one must see."""
    os.makedirs(_MEETING, mode=0o755, exist_ok=True)
    return _locked(Path(_MEETING), busy=f"Another command keeps {_MEETING} locked; try again.")


class Root:
    """The directory below which all local clusters of this machine are."""

    def __init__(self, path: str = "") -> None:
        path = path or os.environ.get("SWARMD_LOCAL_ROOT") or DEFAULT_ROOT
        plan.check_root(path)
        self.path = os.path.realpath(path)
        plan.check_root(self.path)

    def names(self) -> list[str]:
        """The clusters there are, by name."""
        with suppress(FileNotFoundError):
            return sorted(entry.name for entry in os.scandir(self.path) if entry.is_dir())
        return []

    def record(self, name: str) -> Record:
        """The record of ``name``; :class:`NotFound` when there is none."""
        plan.check_name(name)
        record = Record(f"{self.path}/{name}")
        if not os.path.isdir(record.home):
            there = ", ".join(self.names()) or "none"
            raise NotFound(f'There is no local cluster "{name}" below {self.path} (there: {there}).')
        return record

    def create(self, name: str, planned: Callable[[list[str]], Cluster]) -> Record:
        """Write down a new cluster; ``planned`` is told the subnets of the others, running or not.

        :class:`Conflict` when the name is taken.
        """
        os.makedirs(self.path, mode=0o755, exist_ok=True)
        with _locked(Path(self.path), busy=f"Another command keeps {self.path} locked; try again."):
            record = Record(f"{self.path}/{name}")
            others = [other.subnet for each in self.names() if (other := self._read(each)) is not None]
            cluster = planned(others)
            try:
                os.mkdir(record.home, 0o755)
            except FileExistsError as error:
                raise Conflict(
                    f'The local cluster "{name}" exists; "swarmctl local down" removes it.'
                ) from error
            record.save(cluster)
            return record

    def _read(self, name: str) -> Cluster | None:
        try:
            return Record(f"{self.path}/{name}").load()
        except Unavailable:
            return None

    def forget_if_empty(self) -> None:
        """Remove the directory of all clusters when no cluster is left."""
        with suppress(OSError):
            os.rmdir(self.path)


class Record:
    """One cluster's directory."""

    def __init__(self, home: str) -> None:
        self.home = home
        self._file = Path(home, "cluster.json")
        self._changing = threading.Lock()

    @property
    def switch(self) -> str:
        """The file that keeps the switch's network namespace."""
        return f"{self.home}/switch.ns"

    def paths(self, node: str) -> Paths:
        """Where ``node`` keeps its things."""
        return Paths(home=f"{self.home}/{node}")

    def lock(self) -> AbstractContextManager[None]:
        """Keep other commands from changing this cluster; :class:`Refused` after a minute of waiting."""
        name = os.path.basename(self.home)
        return _locked(
            Path(self.home),
            busy=f'Another command is working on the local cluster "{name}"; wait for its end.',
        )

    def load(self) -> Cluster:
        """The cluster as written; :class:`Unavailable` when it cannot be read."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Cluster)
        except (OSError, msgspec.DecodeError) as error:
            raise Unavailable(
                f'{self._file} cannot be read ({error}); "swarmctl local down --name '
                f'{os.path.basename(self.home)}" removes what is left of the cluster.'
            ) from error

    def save(self, cluster: Cluster) -> None:
        """Write the cluster; a crash leaves the old or the new text."""
        text = msgspec.json.format(msgspec.json.encode(cluster), indent=2)
        new = self._file.with_suffix(".new")
        with new.open("wb") as file:
            file.write(text + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)

    def change_node(self, name: str, change: Callable[[Node], Node]) -> Node:
        """Rewrite one node's entry; safe between threads that start nodes side by side."""
        with self._changing:
            cluster = self.load()
            changed = change(cluster.node(name))
            self.save(cluster.with_node(changed))
            return changed

    def remove(self) -> None:
        """Delete all files, ``cluster.json`` last.  Never through a mount."""
        mounted = mounts_below(self.home)
        if mounted:
            raise Unavailable(f"{mounted[0]} is still mounted; unmount it, then run the command again.")
        for entry in os.scandir(self.home):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.name != self._file.name:
                os.unlink(entry.path)
        self._file.unlink(missing_ok=True)
        os.rmdir(self.home)
