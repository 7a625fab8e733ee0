"""An empty layer that is filled by COPY, ADD and WORKDIR, over the layers below.  Blocking; for threads.

No overlay is mounted: what is below is read through :class:`Merged`, what is new is written straight into the
layer's directory.  A directory that both have is made as it is below.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from swarmd.image.build.core import modes
from swarmd.image.build.core.tree import Item, Tree, base, followed, join
from swarmd.model.errors import Invalid
from swarmd.node.building.merged import Merged, item_of

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Looks(msgspec.Struct, frozen=True):
    """What entries are to have instead of their own: (uid, gid), and the mode after ``chmod``."""

    owner: tuple[int, int] | None = None
    chmod: str = ""

    def mode(self, item: Item) -> int:
        """The permission bits of an entry."""
        return modes.changed(self.chmod, item.mode, is_directory=item.kind == "directory")


class Canvas:
    """The layer in the directory ``upper``; ``lowers`` are those below, topmost first.  Close it.

    ``default_time`` (ns) is the time of directories that nobody brought.
    """

    def __init__(self, upper: Path, lowers: Sequence[Path], *, default_time: int = 0) -> None:
        self._top = os.open(upper, _DIRECTORY)
        self._at = ("", os.dup(self._top))
        self._below = Merged(lowers)
        self._all = Merged((upper, *lowers))
        self._default_time = default_time
        self._times: dict[str, int] = {}
        self._linked: dict[tuple[int, int], str] = {}

    def close(self) -> None:
        """Directories get their times, which filling them has changed."""
        for path, at in sorted(self._times.items(), reverse=True):
            with contextlib.suppress(OSError):
                fd = self._open(path)
                os.utime(fd, ns=(at, at))
                os.close(fd)
        self._all.close()
        self._below.close()
        os.close(self._at[1])
        os.close(self._top)

    def text(self, path: str) -> str:
        """A small file of the image so far; empty when there is none."""
        return self._all.text(path)

    def resolved(self, path: str) -> str:
        """Where ``path`` leads in the image so far."""
        self._all.close()  # what it remembers may have been written to
        return followed(self._all, path.strip("/"))

    def look(self, path: str) -> Item | None:
        """What the image so far has at a resolved path."""
        self._all.close()
        return self._all.look(path)

    def directory(self, path: str, owner: tuple[int, int] | None = None, mode: int = 0o755) -> None:
        """A directory is at the resolved ``path`` afterwards, those above it too; new ones look so."""
        self._ensure(path, owner or (0, 0), mode)

    def put(self, tree: Tree, source: str, item: Item, target: str, looks: Looks, *, nested: bool) -> None:
        """An entry (a directory: without what is in it) at a resolved path.

        A directory that is the destination itself, not ``nested`` in what is copied, keeps its looks if it is
        there, and is an ordinary one if it has to be made.
        """
        parent_path, _, name = target.rpartition("/")
        if not name:
            return  # the root is there, and stays as it is
        parent = self._ensure(parent_path, looks.owner or (0, 0), 0o755)
        if item.kind == "directory":
            self._put_directory(parent, target, name, item, looks, nested=nested)
        else:
            self._put_other(parent, target, name, tree, source, item, looks)

    def _put_directory(
        self, parent: int, target: str, name: str, item: Item, looks: Looks, *, nested: bool
    ) -> None:
        there = self._there(parent, target, name)
        if there is not None and there.kind != "directory":
            raise Invalid(f"cannot copy to non-directory: /{target}")
        fd = self._ensure(target, looks.owner or (0, 0), 0o755)
        if nested:
            _dress(fd, item, looks)
        if nested or there is None:
            self._times[target] = item.mtime_ns

    def _put_other(
        self, parent: int, target: str, name: str, tree: Tree, source: str, item: Item, looks: Looks
    ) -> None:
        there = self._there(parent, target, name)
        if there is not None and there.kind == "directory":
            raise Invalid(f"cannot replace to directory /{target} with file")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        earlier = self._linked.get(item.same) if item.same is not None else None
        if earlier is not None:
            self._link(earlier, parent, name)
            return
        if item.kind == "file":
            fd = os.open(name, _NEW, 0o600, dir_fd=parent)
            try:
                tree.write(source, fd)
                _dress(fd, item, looks)
                os.utime(fd, ns=(item.mtime_ns, item.mtime_ns))
            finally:
                os.close(fd)
        else:
            _make_special(parent, name, item, looks)
        if item.same is not None:
            self._linked[item.same] = target

    def _link(self, earlier: str, parent: int, name: str) -> None:
        holder, _, old = earlier.rpartition("/")
        fd = self._open(holder)
        try:
            os.link(old, name, src_dir_fd=fd, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(fd)

    def _there(self, parent: int, target: str, name: str) -> Item | None:
        """What the image so far has: in this layer, else below."""
        try:
            return item_of(parent, name, os.stat(name, dir_fd=parent, follow_symlinks=False))
        except FileNotFoundError:
            return self._below.look(target)

    def _ensure(self, path: str, owner: tuple[int, int], mode: int) -> int:
        """A descriptor of the directory in this layer; missing ones are made, as they are below if they are.

        It is this object's own, until the next call.
        """
        if self._at[0] == path:
            return self._at[1]
        parent, _, name = path.rpartition("/")
        if not name:
            fd = os.dup(self._top)
        else:
            above = self._ensure(parent, owner, mode)
            if not _is_directory(above, name):
                self._make(above, path, name, owner, mode)
            fd = os.open(name, _DIRECTORY, dir_fd=above)
        os.close(self._at[1])
        self._at = (path, fd)
        return fd

    def _make(self, fd: int, path: str, name: str, owner: tuple[int, int], mode: int) -> None:
        there = self._there(fd, path, name)
        if there is not None and there.kind != "directory":
            raise Invalid(f"cannot create directory /{path}: there is a file of that name")
        below = there
        os.mkdir(name, 0o700, dir_fd=fd)
        made = os.open(name, _DIRECTORY, dir_fd=fd)
        try:
            look = below or Item(
                kind="directory", mode=mode, uid=owner[0], gid=owner[1], mtime_ns=self._default_time
            )
            _dress(made, look, Looks())
        finally:
            os.close(made)
        self._times.setdefault(path, look.mtime_ns)

    def _open(self, path: str) -> int:
        fd = os.dup(self._top)
        for part in path.split("/") if path else ():
            deeper = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = deeper
        return fd


def landing(canvas: Canvas, destination: str, *, is_directory: bool, name: str, follow: bool) -> str:
    """The resolved path under which a source goes to ``destination`` (its content, if it is a directory)."""
    plain = destination.strip("/")
    path = canvas.resolved(plain) if follow else plain
    if is_directory:
        return path
    there = canvas.look(path)
    if destination.endswith("/") or (there is not None and there.kind == "directory"):
        return join(path, base(name) or name)
    return path


def _make_special(parent: int, name: str, item: Item, looks: Looks) -> None:
    if item.kind == "link":
        os.symlink(item.link, name, dir_fd=parent)
    else:
        os.mknod(name, item.node | 0o600, item.device, dir_fd=parent)
    owner = looks.owner or (item.uid, item.gid)
    os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
    if item.kind != "link":
        os.chmod(name, looks.mode(item), dir_fd=parent)
    os.utime(name, ns=(item.mtime_ns, item.mtime_ns), dir_fd=parent, follow_symlinks=False)


def _dress(fd: int, item: Item, looks: Looks) -> None:
    """A change of owner clears set-user-id bits and capabilities: it comes first."""
    os.fchown(fd, *(looks.owner or (item.uid, item.gid)))
    os.fchmod(fd, looks.mode(item))
    for key, value in item.xattrs.items():
        os.setxattr(fd, key, value)


def _is_directory(fd: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
