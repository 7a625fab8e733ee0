"""Look-ups that the kernel confines to a root, whatever links others put into the way meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator

_SYS_OPENAT2 = 437  # the same number on every architecture
_NO_MAGICLINKS = 0x02
_NO_SYMLINKS = 0x04
_BENEATH = 0x08
_IN_ROOT = 0x10
_TRIES = 128  # the kernel asks again when a rename elsewhere raced with a ".."

# Not PyDLL: a look-up may wait for a file system of the other side, and only this thread is to wait.
_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open ``path`` as a process would whose ``/`` is the directory ``root``; links are followed inside it.

    With ``os.O_NOFOLLOW`` in ``flags`` a link at the end is not followed.  Raises OSError.
    """
    return _openat2(root, path, flags, _IN_ROOT | _NO_MAGICLINKS)


def open_below(root: int, path: str, flags: int) -> int:
    """Open ``path`` below the directory ``root``; a link anywhere on the way is an error (ELOOP)."""
    return _openat2(root, path, flags | os.O_NOFOLLOW, _BENEATH | _NO_SYMLINKS)


@contextlib.contextmanager
def held(fd: int) -> Iterator[int]:
    """A descriptor for the length of a block."""
    try:
        yield fd
    finally:
        os.close(fd)


def _openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    name = os.fsencode(path) or b"."
    arguments = (ctypes.c_int(directory), name, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))
    for _ in range(_TRIES):
        fd = int(_libc.syscall(ctypes.c_long(_SYS_OPENAT2), *arguments))
        if fd >= 0:
            return fd
        if ctypes.get_errno() != errno.EAGAIN:
            break
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
