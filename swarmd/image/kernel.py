"""System calls Python has no name for: openat2 (lookups confined to a root), syncfs, flags of directories."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import sys
from pathlib import Path

from swarmd.model.errors import Unavailable

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_TRIES = 128  # the kernel asks again when a rename elsewhere raced with a ".."
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_TOP_DIRECTORY = 0x00020000  # FS_TOPDIR_FL
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)
_GOARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_dir_in_root(root: int, path: bytes) -> int:
    """Open the directory ``path`` below the directory fd ``root``, as if ``root`` were ``/``.

    Symbolic links are followed but cannot lead outside.  Raises OSError.
    """
    how = _OpenHow(_DIRECTORY, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    arguments = (ctypes.c_int(root), path or b".", ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))
    for _ in range(_TRIES):
        fd = int(_libc.syscall(ctypes.c_long(_SYS_OPENAT2), *arguments))
        if fd >= 0:
            return fd
        if ctypes.get_errno() != errno.EAGAIN:
            break
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), os.fsdecode(path))


def sync_file_system(fd: int) -> None:
    """Wait until everything written to the file system of ``fd`` is on disk.  Raises OSError."""
    if _libc.syncfs(ctypes.c_int(fd)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def spread_directories(path: Path) -> None:
    """Ask ext4 to put each directory made in ``path`` into a block group of its own (``chattr +T``).

    Layers then do not share a group with what is being deleted.  Other file systems may not know it.
    """
    fd = os.open(path, _DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            flags = int.from_bytes(fcntl.ioctl(fd, _GET_FLAGS, bytes(8)), sys.byteorder)
            fcntl.ioctl(fd, _SET_FLAGS, (flags | _TOP_DIRECTORY).to_bytes(8, sys.byteorder))
    finally:
        os.close(fd)


def goarch() -> str:
    """This machine's architecture in Go's words, which images use."""
    machine = platform.machine()
    if machine not in _GOARCH:
        raise Unavailable(f"images for the machine type {machine} are not supported")
    return _GOARCH[machine]
