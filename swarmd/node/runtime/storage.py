"""What the runtime keeps of each container on disk, so that a new daemon knows what the old one knew.

``<data>/containers/<id>/``: container.json (what was asked for), config.json (the OCI bundle made of it; in
0.1.0 that name was container.json's), state.json, upper/ work/ root/ (overlay), files/ (hosts, ...), log/.
``<run>/ctr/<id>/``: the pipes and the spawner's notes (``rundir``).
"""

from __future__ import annotations

import errno
import marshal
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from swarmd.image.streams import is_full, no_space
from swarmd.kit.trees import remove_tree
from swarmd.model.errors import Unavailable
from swarmd.node.runtime import rundir
from swarmd.node.runtime.core import logrecord
from swarmd.node.runtime.core.bundle_mounts import generated_files
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.core.facts import Layout
from swarmd.node.runtime.port import ContainerConfig, ContainerState

T = TypeVar("T")

_ATTEMPTS = 5
_SECTOR = 512
_DIRECTORIES = ("upper", "work", "root", "files", "log")


class Stored(msgspec.Struct, frozen=True):
    """The contents of container.json."""

    config: ContainerConfig
    groups: ContainerGroups
    created_at: float


class Storage:
    def __init__(self, data_dir: Path, run_dir: Path) -> None:
        self._containers = data_dir / "containers"
        self._run_dir = run_dir

    def prepare(self) -> None:
        self._containers.mkdir(parents=True, exist_ok=True)
        pipes = self._run_dir / "ctr"
        pipes.mkdir(parents=True, exist_ok=True)
        pipes.chmod(0o700)

    def identity(self) -> str:
        """Tells this runtime's containers from those of another on the same machine."""
        found = os.stat(self._containers)
        return f"{found.st_dev}:{found.st_ino}"

    def directory(self, container_id: str) -> Path:
        return self._containers / container_id

    def make(self, stored: Stored) -> Layout:
        """The directories and files of a new container; :class:`OSError` if that fails."""
        config = stored.config
        base = self.directory(config.id)
        for name in _DIRECTORIES:
            # A single container's layer and log are there from its last run, as links.
            (base / name).mkdir(parents=True, mode=0o700, exist_ok=True)
        top = os.stat(config.lower_dirs[0])  # the root of an overlay looks like its uppermost directory
        os.chmod(base / "upper", top.st_mode & 0o7777)
        os.chown(base / "upper", top.st_uid, top.st_gid)
        self.save(stored)
        _go_on(base / "log", stored.created_at)
        for name, content in generated_files(config).items():
            (base / "files" / name).write_text(content, encoding="utf-8")
            (base / "files" / name).chmod(0o644)
        self._note_log(config, base)
        return Layout(
            bundle=str(base),
            root=str(base / "root"),
            upper=str(base / "upper"),
            work=str(base / "work"),
            files=str(base / "files"),
        )

    def trouble(self, container_id: str, error: OSError) -> Unavailable:
        """Why nothing can be made for a container, in words."""
        if is_full(error):
            noted = Path(os.fsdecode(error.filename or "")).is_relative_to(self._run_dir)
            return no_space(self._run_dir if noted else self._containers, "containers")
        return Unavailable(f"cannot prepare container {container_id}: {error.strerror or error}")

    def _note_log(self, config: ContainerConfig, base: Path) -> None:
        """For the log pump.  The pipes are made by the spawner: one that recovers must find none that were
        never written to, or their end would be taken for that of the output."""
        directory = Path(rundir.directory(str(self._run_dir), config.id))
        directory.mkdir(parents=True, mode=0o700)
        settings = (str(base / "log"), config.log_max_size, config.log_max_files)
        (directory / "log").write_bytes(marshal.dumps(settings))

    def save(self, stored: Stored) -> None:
        _replace(self.directory(stored.config.id) / "container.json", msgspec.json.encode(stored))

    def save_state(self, state: ContainerState) -> None:
        _overwrite(self.directory(state.id) / "state.json", msgspec.json.encode(state))

    def load(self) -> list[tuple[str, Stored | None, ContainerState | None]]:
        """Every container there is a directory of, with what can be read of it."""
        out = []
        names = {base.name for base in self._containers.iterdir()}
        for name in sorted(names.union(rundir.identifiers(str(self._run_dir)))):
            base = self.directory(name)
            stored = _decode(base / "container.json", Stored) or _decode(base / "config.json", Stored)
            out.append((name, stored, _decode(base / "state.json", ContainerState)))
        return out

    def remove(self, container_id: str) -> None:
        """May take long for a container that wrote much: call it off the event loop."""
        for base in (self.directory(container_id), self._run_dir / "ctr" / container_id):
            for attempt in range(_ATTEMPTS):
                try:
                    remove_tree(base)
                except FileNotFoundError:
                    pass
                except OSError as error:  # the log pump may have made a file meanwhile, its last one
                    if error.errno != errno.ENOTEMPTY or attempt == _ATTEMPTS - 1:
                        raise
                    continue
                break


def _overwrite(path: Path, data: bytes) -> None:
    """In place, padded to whole sectors: one write into one page is not torn by a killed process.

    A file that replaces another makes file systems write both out, which took ten times the processor and a
    hundred times as long, three times for each container.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = max(os.fstat(fd).st_size, -(-len(data) // _SECTOR) * _SECTOR)
        os.pwrite(fd, data.ljust(size), 0)
    finally:
        os.close(fd)


def _go_on(log: Path, now: float) -> None:
    """The log of a program that runs again does not end where it ended: who follows it is to wait."""
    for number in logrecord.file_numbers(os.listdir(log))[-1:]:
        with (log / logrecord.file_name(number)).open("r+b") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - logrecord.OVERHEAD))
            if logrecord.has_ended(file.read()):
                file.write(logrecord.encode(int(now * 1e9), logrecord.STDOUT, b""))


def _replace(path: Path, data: bytes) -> None:
    if not path.exists():  # a torn one is a container that was never made
        path.write_bytes(data)
        return
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def _decode(path: Path, kind: type[T]) -> T | None:
    """None if it is not there or was torn by a power cut."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
