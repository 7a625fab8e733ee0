"""Layers as overlayfs shows them together, read without a mount.  Blocking; for threads.

A directory of the view is the list of directories it is merged from, topmost first.  Trees came from images:
every name is opened without following links.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from swarmd.image.build.core.tree import Item, Kind, followed
from swarmd.image.lowers import OPAQUE, is_whiteout
from swarmd.model.errors import Invalid

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_MOST_TEXT = 4 << 20
_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


class View:
    """One directory.  ``fds`` are its own from now on, as far as they are not hidden by an opaque one."""

    def __init__(self, fds: Sequence[int]) -> None:
        shown = next((at + 1 for at, fd in enumerate(fds) if _is_opaque(fd)), len(fds))
        for fd in fds[shown:]:
            os.close(fd)
        self.fds = list(fds[:shown])

    def look(self, name: str) -> tuple[int, os.stat_result] | None:
        """What is there: the directory that has it, and its lstat."""
        for fd in self.fds:
            with contextlib.suppress(FileNotFoundError):
                seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
                return None if is_whiteout(seen) else (fd, seen)
        return None

    def enter(self, name: str) -> View | None:
        """The directory of that name; None when it is none."""
        fds: list[int] = []
        for fd in self.fds:
            try:
                seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(seen.st_mode):
                break
            fds.append(os.open(name, _DIRECTORY, dir_fd=fd))
        return View(fds) if fds else None

    def names(self) -> list[str]:
        """All that are shown."""
        every = {name for fd in self.fds for name in os.listdir(fd)}
        return sorted(name for name in every if self.look(name) is not None)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Merged:
    """Layers, topmost first; implements :class:`swarmd.image.build.core.tree.Tree`.  Close it."""

    def __init__(self, trees: Sequence[Path]) -> None:
        self._trees = tuple(trees)
        self._at: tuple[str, View | None] | None = None

    def close(self) -> None:
        if self._at is not None and self._at[1] is not None:
            self._at[1].close()
        self._at = None

    def look(self, path: str) -> Item | None:
        parent, _, name = path.rpartition("/")
        if not path:
            return self._root()
        view = self._view(parent)
        found = view.look(name) if view is not None else None
        return None if found is None else item_of(found[0], name, found[1])

    def names(self, path: str) -> list[str]:
        view = self._view(path)
        return view.names() if view is not None else []

    def digest(self, path: str) -> str:
        total = hashlib.sha256()
        with self._opened(path) as source:
            while piece := os.read(source, _CHUNK):
                total.update(piece)
        return total.hexdigest()

    def write(self, path: str, fd: int) -> None:
        with self._opened(path) as source:
            copy_content(source, fd)

    def text(self, path: str) -> str:
        """A small file like /etc/passwd, links on the way followed; empty when there is none."""
        real = followed(self, path)
        item = self.look(real)
        if item is None or item.kind != "file" or item.size > _MOST_TEXT:
            return ""
        with self._opened(real) as source, os.fdopen(os.dup(source), "rb") as file:
            return file.read().decode(errors="surrogateescape")

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        parent, _, name = path.rpartition("/")
        view = self._view(parent)
        found = view.look(name) if view is not None else None
        if found is None:
            raise Invalid(f"/{path} vanished while it was read")
        fd = os.open(name, _FILE, dir_fd=found[0])
        try:
            yield fd
        finally:
            os.close(fd)

    def _root(self) -> Item | None:
        if not self._trees:
            return Item(kind="directory")
        fd = os.open(self._trees[0], _DIRECTORY)
        try:
            return item_of(fd, ".", os.stat(fd))
        finally:
            os.close(fd)

    def _view(self, path: str) -> View | None:
        """Remembered: whoever walks asks for one directory many times."""
        if self._at is not None and self._at[0] == path:
            return self._at[1]
        view = self._open_view(path)
        self.close()
        self._at = (path, view)
        return view

    def _open_view(self, path: str) -> View | None:
        view: View | None = View([os.open(tree, _DIRECTORY) for tree in self._trees])
        for part in path.split("/") if path else ():
            below = view.enter(part) if view is not None else None
            if view is not None:
                view.close()
            view = below
        return view


def item_of(parent: int, name: str, seen: os.stat_result) -> Item:
    """An entry as it lies on disk."""
    kind = _KINDS.get(stat.S_IFMT(seen.st_mode), "node")
    return Item(
        kind=kind,
        mode=stat.S_IMODE(seen.st_mode),
        uid=seen.st_uid,
        gid=seen.st_gid,
        size=seen.st_size if kind == "file" else 0,
        mtime_ns=seen.st_mtime_ns,
        link=os.readlink(name, dir_fd=parent) if kind == "link" else "",
        node=stat.S_IFMT(seen.st_mode) if kind == "node" else 0,
        device=seen.st_rdev if kind == "node" else 0,
        same=(seen.st_dev, seen.st_ino) if seen.st_nlink > 1 and kind != "directory" else None,
        xattrs=_attributes(parent, name) if kind in ("file", "directory") else {},
    )


def copy_content(source: int, target: int) -> None:
    """All that is left to read of one file into another, by the kernel where it can."""
    while True:
        try:
            if not os.copy_file_range(source, target, 1 << 30):
                return
        except OSError:
            break
    while piece := os.read(source, _CHUNK):
        write_all(target, piece)


def copy_part(source: int, target: int, size: int) -> None:
    """The next ``size`` bytes of ``source``, which is closed."""
    try:
        while size:
            done = os.copy_file_range(source, target, size)
            if not done:
                break
            size -= done
        if size:
            raise Invalid("a file of the build context is shorter on disk than it was: prune the build cache")
    finally:
        os.close(source)


def write_all(fd: int, data: bytes) -> None:
    """However many writes it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _attributes(parent: int, name: str) -> dict[str, bytes]:
    path = f"/proc/self/fd/{parent}/{name}"
    try:
        keys = [key for key in os.listxattr(path, follow_symlinks=False) if _is_kept(key)]
        return {key: os.getxattr(path, key, follow_symlinks=False) for key in keys}
    except OSError:
        return {}


def _is_kept(key: str) -> bool:
    return key == "security.capability" or (key.startswith("user.") and not key.startswith("user.overlay."))


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError:
        return False
