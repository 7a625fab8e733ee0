"""A container's writable layer → a copy of it, as a layer of an image may have it.

Blocking; for threads.  What :mod:`swarmd.node.runtime.diff` tells of is copied, and nothing else: no mount
point and no file that was injected.  The container may run on; what it moves away meanwhile is left out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path

from swarmd.image.lowers import OPAQUE, is_whiteout
from swarmd.kit.tree.confined import held, open_below
from swarmd.kit.tree.ids import Owners

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
_NO_RANGE = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_CHUNK = 8 << 20


def copy_layer(upper: Path, target: Path, kept: Collection[str], owners: Owners) -> None:
    """Copy the names in ``kept`` (absolute paths in the container) from ``upper`` into ``target``.

    ``target`` is an empty directory.  Owners become those that the container sees.  Raises OSError.
    """
    with (
        held(os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as source,
        held(os.open(target, _DIRECTORY)) as top,
    ):
        _Copy(source, top, kept, owners).run()


class _Copy:
    def __init__(self, source: int, target: int, kept: Collection[str], owners: Owners) -> None:
        self._source = source
        self._target = target
        self._kept = kept
        self._owners = owners
        self._linked: dict[tuple[int, int], str] = {}
        self._times: list[tuple[str, int]] = []

    def run(self) -> None:
        waiting = ["."]
        while waiting:
            waiting += self._directory(waiting.pop())
        for path, mtime in reversed(self._times):  # those below are made, so these are not touched again
            with held(open_below(self._target, path, _DIRECTORY)) as fd:
                os.utime(fd, ns=(mtime, mtime))

    def _directory(self, path: str) -> list[str]:
        """Copy what is in a directory; answers the directories in it."""
        try:
            found = open_below(self._source, path, _DIRECTORY)
        except OSError as error:
            if error.errno in _GONE:
                return []
            raise
        with held(found) as source, held(open_below(self._target, path, _DIRECTORY)) as target:
            seen = os.fstat(source)
            self._dress(source, target, seen)
            self._times.append((path, seen.st_mtime_ns))
            below = []
            for name in os.listdir(source):
                inner = name if path == "." else f"{path}/{name}"
                if f"/{inner}" in self._kept and self._entry(source, target, name, inner):
                    below.append(inner)
            return below

    def _entry(self, source: int, target: int, name: str, path: str) -> bool:
        """Make one name; answers whether it is a directory."""
        with contextlib.suppress(FileNotFoundError):
            seen = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(seen.st_mode):
                os.mkdir(name, 0o700, dir_fd=target)
                return True
            # The kernel makes several whiteouts names of one device: they are no links of each other.
            several = seen.st_nlink > 1 and not is_whiteout(seen)
            first = self._linked.get((seen.st_dev, seen.st_ino)) if several else None
            if first is not None:
                os.link(first, path, src_dir_fd=self._target, dst_dir_fd=self._target, follow_symlinks=False)
            elif self._made(source, target, name, seen) and several:
                self._linked[seen.st_dev, seen.st_ino] = path
        return False

    def _made(self, source: int, target: int, name: str, seen: os.stat_result) -> bool:
        if stat.S_ISREG(seen.st_mode):
            return self._file(source, target, name)
        if stat.S_ISLNK(seen.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISSOCK(seen.st_mode):  # nothing without its program
            return False
        else:
            os.mknod(name, seen.st_mode, seen.st_rdev, dir_fd=target)
        os.chown(name, *self._owner(seen), dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(seen.st_mode):
            os.chmod(name, stat.S_IMODE(seen.st_mode), dir_fd=target)  # made just now: no link
        os.utime(name, ns=(seen.st_mtime_ns,) * 2, dir_fd=target, follow_symlinks=False)
        return True

    def _file(self, source: int, target: int, name: str) -> bool:
        try:
            found = os.open(name, _FILE, dir_fd=source)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise
        with held(found) as old:
            seen = os.fstat(old)
            if not stat.S_ISREG(seen.st_mode):  # another thing by now
                return False
            with held(os.open(name, _NEW, 0o600, dir_fd=target)) as new:
                _copy_data(old, new, seen.st_size)
                self._dress(old, new, seen)
                os.utime(new, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
        return True

    def _dress(self, source: int, target: int, seen: os.stat_result) -> None:
        """Owner, mode, attributes, in this order: a change of owner clears set-user-id and capabilities."""
        os.fchown(target, *self._owner(seen))
        os.fchmod(target, stat.S_IMODE(seen.st_mode))
        for key in os.listxattr(source):
            if not key.startswith("trusted.") or key == OPAQUE:
                with contextlib.suppress(FileNotFoundError):
                    os.setxattr(target, key, os.getxattr(source, key))

    def _owner(self, seen: os.stat_result) -> tuple[int, int]:
        return self._owners.users.inside(seen.st_uid), self._owners.groups.inside(seen.st_gid)


def _copy_data(old: int, new: int, size: int) -> None:
    """Up to ``size`` bytes; holes stay holes, and where the file system can, nothing is copied at all."""
    at = 0
    while at < size:
        try:
            at = os.lseek(old, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        end = min(os.lseek(old, at, os.SEEK_HOLE), size)
        while at < end:
            copied = _copy_piece(old, new, at, min(_CHUNK, end - at))
            if copied == 0:  # it was cut off meanwhile
                os.ftruncate(new, at)
                return
            at += copied
    os.ftruncate(new, size)


def _copy_piece(old: int, new: int, at: int, length: int) -> int:
    """Answers how many bytes it was, 0 at the end of the file."""
    try:
        return os.copy_file_range(old, new, length, at, at)
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
    return os.pwrite(new, os.pread(old, length, at), at)
