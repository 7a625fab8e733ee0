"""Writing one file of a layer: content, owner, mode, attributes, times.  Blocking; by directory fd."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from swarmd.image.core.rules import attributes
from swarmd.image.core.tar import CHUNK, Entry
from swarmd.model.errors import Invalid

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_XATTR = (errno.EOPNOTSUPP, errno.EPERM)
_BAD_XATTR = (errno.E2BIG, errno.ERANGE, errno.EINVAL)
_SMALL_XATTR = 2048  # for a bigger one ext4 answers "no space" however empty the disk is


def new_file(parent: int, base: bytes) -> int:
    """A descriptor of a file that was not there; raises FileExistsError."""
    return os.open(base, _NEW_FILE, 0o600, dir_fd=parent)


def write_file(fd: int, entry: Entry, data: Iterable[bytes]) -> None:
    """Fill and dress the new file ``fd``, and close it."""
    try:
        for piece in data:
            _write_all(fd, piece)
        dress(fd, entry)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(fd)


def copy_file(held: tuple[int, bytes], parent: int, base: bytes, seen: os.stat_result) -> None:
    source = os.open(held[1], _OLD_FILE, dir_fd=held[0])
    try:
        fd = os.open(base, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            while piece := os.read(source, CHUNK):
                _write_all(fd, piece)
            copy_looks(source, fd, seen)
            os.utime(fd, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
        finally:
            os.close(fd)
    finally:
        os.close(source)


def _write_all(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


def dress(fd: int, entry: Entry) -> None:
    """Owner, mode, attributes, in this order: a change of owner clears setuid and capabilities."""
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.mode)
    for key, value in attributes(entry):
        _set_attribute(fd, os.fsdecode(key), value)


def copy_looks(source: int, fd: int, seen: os.stat_result) -> None:
    os.fchown(fd, seen.st_uid, seen.st_gid)
    os.fchmod(fd, stat.S_IMODE(seen.st_mode))
    for key in os.listxattr(source):
        if not key.startswith("trusted."):
            _set_attribute(fd, key, os.getxattr(source, key))


def _set_attribute(fd: int, key: str, value: bytes) -> None:
    try:
        os.setxattr(fd, key, value)
    except OSError as error:
        too_big = error.errno == errno.ENOSPC and len(value) > _SMALL_XATTR
        if too_big or error.errno in _BAD_XATTR:
            raise Invalid(
                f"the layer has an extended attribute {key[:80]} of {len(value)} bytes "
                f"that cannot be stored: {error.strerror}"
            ) from error
        if error.errno not in _NO_XATTR:
            raise


def dress_name(parent: int, base: bytes, entry: Entry) -> None:
    """Owner and time of what cannot be opened."""
    os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    os.utime(base, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
