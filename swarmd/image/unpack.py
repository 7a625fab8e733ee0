"""A layer's tar → a directory that overlayfs takes as a lower one.

Blocking; for threads.  Every path is resolved by the kernel inside the layer's own root, and the last
component is never followed.  Errors in the layer are :class:`Invalid`; the caller removes the tree.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from swarmd.image.core.rules import Act, Limits, link_target, shown, step_for
from swarmd.image.core.tar import Entry, Kind, Read, TarReader
from swarmd.image.files import copy_file, copy_looks, dress, dress_name, new_file, write_file
from swarmd.image.kernel import open_dir_in_root
from swarmd.image.lowers import OPAQUE, Lowers, is_whiteout
from swarmd.model.errors import Invalid

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NODE = {Kind.CHAR: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}


def unpack_layer(read: Read, tree: Path, grave: Path, lowers: tuple[Path, ...], limits: Limits) -> bool:
    """Unpack the plain tar that ``read`` gives into the empty directory ``tree``.

    ``lowers`` are the unpacked layers below, topmost first.  Directories that a later entry replaces are
    moved to ``grave``, beside ``tree``, for the caller to remove.  Answers whether the tree leans on them:
    such a tree is right only on these lowers.  Raises :class:`Invalid`, OSError.
    """
    with contextlib.closing(_Unpacker(tree, grave, Lowers(lowers), limits)) as unpacker:
        reader = TarReader(read)
        for count, entry in enumerate(reader):
            if count >= limits.entries:
                raise Invalid(f"the layer has more than {limits.entries} entries")
            try:
                unpacker.apply(entry, reader.chunks())
            except (NotADirectoryError, FileExistsError, FileNotFoundError) as error:
                raise Invalid(
                    f"the layer contradicts itself at {shown(entry.name)}: {error.strerror}"
                ) from error
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG, errno.EINVAL):
                    raise Invalid(
                        f"the layer has a bad path {shown(entry.name)}: {error.strerror}"
                    ) from error
                raise
        return unpacker.finish()


class _Unpacker:
    def __init__(self, tree: Path, grave: Path, lowers: Lowers, limits: Limits) -> None:
        self._root = os.open(tree, _DIRECTORY)
        self._grave = os.open(grave, _DIRECTORY)
        self._buried = 0
        self._lowers = lowers
        self._limits = limits
        self._parent: tuple[tuple[bytes, ...], int] = ((), os.dup(self._root))
        self._times: dict[tuple[bytes, ...], int] = {}
        self._implicit: set[tuple[bytes, ...]] = set()
        self._copied = False
        self._stale = False

    def close(self) -> None:
        os.close(self._parent[1])
        os.close(self._grave)
        os.close(self._root)

    def apply(self, entry: Entry, data: Iterable[bytes]) -> None:
        """Make, hide or drop what ``entry`` says."""
        step = step_for(entry, self._limits)
        if step.act is Act.DROP:
            return
        if step.act is Act.OPAQUE:
            os.setxattr(self._directory_fd(step.parts), OPAQUE, b"y")
        elif step.act is Act.WHITEOUT:
            self._whiteout(step.parts)
        else:
            self._make(step.parts, entry, data)

    def finish(self) -> bool:
        """Set the directories' times; answer whether lower layers were needed."""
        for parts, mtime in self._times.items():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                fd = open_dir_in_root(self._root, b"/".join(parts))
                os.utime(fd, ns=(mtime, mtime))
                os.close(fd)
        return self._copied or bool(self._implicit)

    def _make(self, parts: tuple[bytes, ...], entry: Entry, data: Iterable[bytes]) -> None:
        if not parts:
            dress(self._root, entry)
        elif entry.kind is Kind.DIR:
            self._make_dir(self._directory_fd(parts[:-1]), parts, entry)
        elif entry.kind is Kind.HARDLINK:
            source = self._link_source(entry)
            if source != parts:
                self._hard_link(source, self._directory_fd(parts[:-1]), parts)
        else:
            self._make_other(self._directory_fd(parts[:-1]), parts[-1], entry, data)

    def _make_other(self, parent: int, base: bytes, entry: Entry, data: Iterable[bytes]) -> None:
        if entry.kind is Kind.FILE:
            write_file(self._new_file(parent, base), entry, data)
            return
        self._clear(parent, base)
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.link, base, dir_fd=parent)
            dress_name(parent, base, entry)
        else:
            device = os.makedev(*entry.device)
            os.mknod(base, _NODE[entry.kind] | 0o600, device, dir_fd=parent)
            dress_name(parent, base, entry)
            # Made just now and not a link: following is harmless, and chmod has no other form.
            os.chmod(base, entry.mode, dir_fd=parent)

    def _new_file(self, parent: int, base: bytes) -> int:
        try:
            return new_file(parent, base)
        except FileExistsError:
            self._clear(parent, base)
            return new_file(parent, base)

    def _make_dir(self, parent: int, parts: tuple[bytes, ...], entry: Entry) -> None:
        fd = self._dir(parent, parts[-1], replace=True)
        try:
            dress(fd, entry)
        finally:
            os.close(fd)
        self._times[parts] = entry.mtime_ns
        self._implicit.discard(parts)

    def _dir(self, parent: int, base: bytes, *, replace: bool) -> int:
        """An fd of the directory ``base``, made if need be; over a whiteout it hides what is below."""
        try:
            seen = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.mkdir(base, 0o755, dir_fd=parent)
            return os.open(base, _DIRECTORY, dir_fd=parent)
        hidden = is_whiteout(seen)
        if hidden or (replace and not stat.S_ISDIR(seen.st_mode)):
            self._clear(parent, base)
            os.mkdir(base, 0o755, dir_fd=parent)
        fd = os.open(base, _DIRECTORY, dir_fd=parent)
        if hidden:
            os.setxattr(fd, OPAQUE, b"y")
        return fd

    def _link_source(self, entry: Entry) -> tuple[bytes, ...]:
        """The hard link's target; one that only a lower layer has is copied up first."""
        source = link_target(entry, self._limits)
        parent, base = self._directory_fd(source[:-1]), source[-1]
        try:
            seen = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            self._copy_up(source, parent, entry)
            return source
        if stat.S_ISDIR(seen.st_mode) or is_whiteout(seen):
            raise Invalid(
                f"the layer has a hard link {shown(entry.name)} to {shown(entry.link)}: no such file"
            )
        return source

    def _hard_link(self, source: tuple[bytes, ...], parent: int, parts: tuple[bytes, ...]) -> None:
        self._clear(parent, parts[-1])
        holder = self._open(source[:-1])
        try:
            os.link(source[-1], parts[-1], src_dir_fd=holder, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(holder)

    def _copy_up(self, source: tuple[bytes, ...], parent: int, entry: Entry) -> None:
        with self._lowers.holder(source) as held:
            seen = os.stat(held[1], dir_fd=held[0], follow_symlinks=False) if held else None
            if held is None or seen is None or not stat.S_ISREG(seen.st_mode):
                raise Invalid(
                    f"the layer has a hard link {shown(entry.name)} to {shown(entry.link)}: "
                    "no layer has that file"
                )
            copy_file(held, parent, source[-1], seen)
        self._copied = True

    def _whiteout(self, parts: tuple[bytes, ...]) -> None:
        """Hide ``parts`` of the lower layers; what this layer itself has there stays."""
        parent, base = self._directory_fd(parts[:-1]), parts[-1]
        try:
            os.mknod(base, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            seen = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(seen.st_mode):
                os.setxattr(self._directory_fd(parts), OPAQUE, b"y")

    def _clear(self, parent: int, base: bytes) -> None:
        """Make room: of two entries with one name the last counts."""
        try:
            os.unlink(base, dir_fd=parent)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            self._buried += 1
            os.rename(base, str(self._buried), src_dir_fd=parent, dst_dir_fd=self._grave)
        # The remembered directory may have been inside, or been reached by a link that is gone.
        self._stale = True

    def _directory_fd(self, parts: tuple[bytes, ...]) -> int:
        """An fd of the directory ``parts``, valid until the next call; missing ones are made."""
        if self._parent[0] != parts or self._stale:
            fd = self._open(parts)
            os.close(self._parent[1])
            self._parent, self._stale = (parts, fd), False
        return self._parent[1]

    def _open(self, parts: tuple[bytes, ...]) -> int:
        fd, depth = self._deepest(parts)
        try:
            while depth < len(parts):
                below = self._dir(fd, parts[depth], replace=False)
                os.close(fd)
                fd, depth = below, depth + 1
                self._inherit(fd, parts[:depth])
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _deepest(self, parts: tuple[bytes, ...]) -> tuple[int, int]:
        """The deepest directory on the way to ``parts`` that exists, and its depth."""
        best, low, high, probe = os.dup(self._root), 0, len(parts), len(parts)
        while low < high:
            # By bisection (all, half, ...): an image may have a path of many levels in every entry.
            try:
                found = open_dir_in_root(self._root, b"/".join(parts[:probe]))
            except (FileNotFoundError, NotADirectoryError):
                high = probe - 1
            except OSError:
                os.close(best)
                raise
            else:
                os.close(best)
                best, low = found, probe
            probe = (low + high + 1) // 2
        return best, low

    def _inherit(self, fd: int, parts: tuple[bytes, ...]) -> None:
        """A parent the layer left out looks as it does below, or is root's with mode 755."""
        self._implicit.add(parts)
        with self._lowers.holder(parts) as held:
            if held is None:
                return
            seen = os.stat(held[1], dir_fd=held[0], follow_symlinks=False)
            if not stat.S_ISDIR(seen.st_mode):
                return
            lower = os.open(held[1], _DIRECTORY, dir_fd=held[0])
            try:
                copy_looks(lower, fd, seen)
            finally:
                os.close(lower)
        self._times[parts] = seen.st_mtime_ns
