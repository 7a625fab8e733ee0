"""Volumes on disk: ``<root>/<name>/volume.json`` and ``<root>/<name>/_data``.  Blocking.

A volume appears and disappears by one rename, so that a crash leaves a whole one or none; what is half made
or half removed has a name no volume can have.  Containers write below ``_data`` only, and what they leave
there, links above all, is never followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from swarmd.image.streams import disk_errors
from swarmd.kit.trees import disk_use, remove_tree
from swarmd.model.errors import Conflict, NotFound, Refused, Unavailable
from swarmd.model.volume_name import NAME
from swarmd.node.volume.core.volume import Volume, described
from swarmd.security.durable import replace_durably, sync_directory

DATA, METADATA = "_data", "volume.json"
_MAKING, _REMOVING = ".making-", ".removing-"
_MOST_METADATA = 1 << 20


class VolumeDisk:
    """A ``token`` names what is under way: any text that is never the same twice."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self) -> None:
        """Make the directory; remove what a crash left half made or half removed.  Raises Unavailable."""
        with _saying("the volumes cannot be opened"):
            self._root.mkdir(mode=0o711, parents=True, exist_ok=True)
            for name in os.listdir(self._root):
                if name.startswith((_MAKING, _REMOVING)):
                    with contextlib.suppress(OSError):  # the next start tries again
                        remove_tree(self._root / name)

    def data(self, name: str) -> Path:
        """Where a volume's content is."""
        return self._root / name / DATA

    def names(self) -> list[str]:
        """Every volume, by name."""
        try:
            found = os.listdir(self._root)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if NAME.fullmatch(name) and self._is_volume(name))

    def read(self, name: str) -> Volume | None:
        """What is remembered of a volume; None when there is none.  Refused when it is no directory."""
        base = self._root / name
        with _saying(f'volume "{name}" cannot be looked at'):
            try:
                seen = base.lstat()
            except FileNotFoundError:
                return None
        if not stat.S_ISDIR(seen.st_mode):
            raise Refused(f'"{base}" is no directory, so it is no volume: move it away, or use a bind mount')
        return described(name, _content(base / METADATA), seen_at=seen.st_mtime)

    def make(self, volume: Volume, token: str) -> Path:
        """A new, empty volume.  Raises Conflict when there is one, Unavailable without room."""
        fresh, base = self._root / f"{_MAKING}{token}", self._root / volume.name
        with _saying(f'volume "{volume.name}" cannot be made'), disk_errors(self._root, "volumes"):
            try:
                fresh.mkdir(mode=0o711, parents=True)
                (fresh / DATA).mkdir(mode=0o755)
                os.chmod(fresh / DATA, 0o755)  # whatever the umask is
                replace_durably(fresh / METADATA, msgspec.json.encode(volume))
                self._appear(fresh, base, volume.name)
            finally:
                with contextlib.suppress(OSError):
                    remove_tree(fresh)
        return base / DATA

    def mend(self, name: str) -> Path:
        """The content's directory of a volume that is there; made when somebody removed it."""
        data = self.data(name)
        with _saying(f'volume "{name}" cannot be used'), disk_errors(self._root, "volumes"):
            with contextlib.suppress(FileExistsError):
                data.mkdir(mode=0o755)
            if not stat.S_ISDIR(data.lstat().st_mode):
                raise Refused(f'volume "{name}": {data} is no directory: remove the volume, or mend it')
        return data

    def take_away(self, name: str, token: str) -> Path:
        """A volume is gone by its name; answers where it is now, for :meth:`clear`.

        Raises NotFound, Unavailable.
        """
        gone = self._root / f"{_REMOVING}{token}"
        with _saying(f'volume "{name}" cannot be removed'):
            try:
                os.rename(self._root / name, gone)
            except FileNotFoundError:
                raise NotFound(f"get {name}: no such volume") from None
            sync_directory(self._root)
        return gone

    def clear(self, gone: Path) -> None:
        """Remove what was taken away: it takes as long as there are files.  Raises Unavailable."""
        with _saying("a volume that was removed still takes room, until the daemon is restarted"):
            remove_tree(gone)

    def size(self, name: str) -> int:
        """Bytes that a volume's content takes on the disk; of one that was taken away by its last name."""
        return disk_use(self.data(name))

    def _is_volume(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            return stat.S_ISDIR((self._root / name).lstat().st_mode)
        return False

    def _appear(self, fresh: Path, base: Path, name: str) -> None:
        """A rename onto a directory that is not empty fails, so the first of two makers wins."""
        try:
            os.rename(fresh, base)
        except OSError as error:
            if base.is_symlink() or base.exists():
                raise Conflict(f"a volume {name} is there already") from error
            raise
        sync_directory(self._root)


def _content(path: Path) -> bytes | None:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return file.read(_MOST_METADATA)
    except OSError:
        return None


@contextlib.contextmanager
def _saying(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{what}: {error.strerror or error}") from error
