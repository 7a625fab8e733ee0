"""Pseudo terminals: opened in the container's own devpts, and their size.

The other side is opened through the descriptor and not by its name, which the container could have put a
link at.  The file loads light modules only, because the spawner uses it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import linux

PTMX = "/dev/pts/ptmx"
_PTMX_NUMBER = os.makedev(5, 2)
_LOOKUP = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS


def open_pair(root: int, rows: int, columns: int) -> tuple[int, int]:
    """A new terminal of the container whose root ``root`` is: the master, and the side of its programs."""
    master = kernel.openat2(root, PTMX, os.O_RDWR | os.O_NOCTTY, _LOOKUP)
    try:
        if not stat.S_ISCHR(os.fstat(master).st_mode) or os.fstat(master).st_rdev != _PTMX_NUMBER:
            raise OSError(errno.ENODEV, f"{PTMX} is not the terminal multiplexer")
        fcntl.ioctl(master, linux.TIOCSPTLCK, struct.pack("i", 0))
        slave = peer(master)
        resize(master, rows, columns)
    except OSError:
        os.close(master)
        raise
    return master, slave


def peer(master: int) -> int:
    """The side of the programs."""
    return fcntl.ioctl(master, linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def take(slave: int) -> None:
    """Make it the controlling terminal and the standard streams of this process, a session leader."""
    fcntl.ioctl(slave, linux.TIOCSCTTY, 0)
    for stream in (0, 1, 2):
        os.dup2(slave, stream)
    os.close(slave)


def resize(fd: int, rows: int, columns: int) -> None:
    """Tells the foreground programs with SIGWINCH, if it changes anything."""
    fcntl.ioctl(fd, linux.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
