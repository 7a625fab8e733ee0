"""The state directory of ``swarmd-runtime``: a directory per container, each with a lock.

::

    ROOT/ID/  lock  state.json  config.json (a copy)  start.sock (while it waits to be started)
    ROOT/.filters/  compiled system call filters
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

import msgspec

from swarmd.model.errors import Conflict, NotFound, Unavailable
from swarmd.node.runtime.core.oci_state import Record, check_id

SOCKET = "start.sock"
_LOCK, _STATE, _CONFIG = "lock", "state.json", "config.json"


class Store:
    """All containers of one state directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def directory(self, container_id: str) -> str:
        return f"{self.root}/{container_id}"

    @contextlib.contextmanager
    def reserved(self, container_id: str) -> Iterator[None]:
        """Make the directory, locked while the container is being made; gone again if that fails.

        Raises :class:`Conflict` if there is such a container.
        """
        check_id(container_id)
        directory = self.directory(container_id)
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            raise Conflict(f"container `{container_id}` already exists") from None
        try:
            with self.locked(container_id):
                yield
        except BaseException:
            self.remove(container_id)
            raise

    @contextlib.contextmanager
    def locked(self, container_id: str) -> Iterator[None]:
        """Nobody else changes the container meanwhile."""
        fd = self._open_lock(container_id)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def is_locked(self, container_id: str) -> bool:
        """Whether somebody changes it at this moment."""
        fd = self._open_lock(container_id)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _open_lock(self, container_id: str) -> int:
        check_id(container_id)
        try:
            return os.open(
                f"{self.directory(container_id)}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except FileNotFoundError:
            raise self._missing(container_id) from None

    def _missing(self, container_id: str) -> NotFound:
        # podman and containerd look for these words
        return NotFound(f"container `{container_id}` does not exist: No such file or directory")

    def save(self, record: Record) -> None:
        self._write(record.id, _STATE, msgspec.json.encode(record))

    def save_config(self, container_id: str, data: bytes) -> None:
        """A copy: later changes of the bundle have no effect."""
        self._write(container_id, _CONFIG, data)

    def _write(self, container_id: str, name: str, data: bytes) -> None:
        path = f"{self.directory(container_id)}/{name}"
        with open(f"{path}.new", "wb") as file:
            file.write(data)
        os.replace(f"{path}.new", path)

    def load(self, container_id: str) -> Record:
        """Raises :class:`NotFound`, :class:`Unavailable` for a container whose making was cut off at once."""
        check_id(container_id)
        directory = self.directory(container_id)
        try:
            with open(f"{directory}/{_STATE}", "rb") as file:
                return msgspec.json.decode(file.read(), type=Record)
        except FileNotFoundError:
            if os.path.isdir(directory):
                raise Unavailable(
                    f"the creation of container `{container_id}` was interrupted; delete it with --force"
                ) from None
            raise self._missing(container_id) from None
        except msgspec.DecodeError as error:
            raise Unavailable(f"{directory}/{_STATE} cannot be read: {error}; delete with --force") from None

    def config(self, container_id: str) -> bytes:
        """What the container was made from; :class:`NotFound`."""
        try:
            with open(f"{self.directory(container_id)}/{_CONFIG}", "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise self._missing(container_id) from None

    def ids(self) -> list[str]:
        try:
            return sorted(
                entry.name for entry in os.scandir(self.root) if entry.is_dir() and entry.name[0] != "."
            )
        except FileNotFoundError:
            return []

    def remove(self, container_id: str) -> None:
        directory = self.directory(container_id)
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(directory):
                os.unlink(entry.path)  # there are only files
            os.rmdir(directory)
