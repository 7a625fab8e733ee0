"""Reads and writes the small files of kernel file systems (cgroup, proc) the way they want it."""

from __future__ import annotations

import os

_CHUNK = 64 * 1024


def read(path: str) -> str:
    """Empty if it is not there: a controller may be missing, a group or a process may be gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        data = b""
        while more := os.read(fd, _CHUNK):  # a page at most, whatever is asked for
            data += more
    except OSError:  # the group was removed, or the process ended, in between
        return ""
    finally:
        os.close(fd)
    return data.decode("utf-8", "replace")


def number(path: str) -> int:
    """0 if there is none."""
    text = read(path).strip()
    return int(text) if text.isdecimal() else 0


def write(path: str, value: str) -> None:
    """In one write, as the kernel takes a value; :class:`OSError` with its opinion."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
