"""Fills an empty volume or tmpfs with what the image has at its target."""

from __future__ import annotations

import os
import stat

from swarmd.node.runtime import wire

_CHUNK = 1024 * 1024


def fill(source: int, target: int) -> None:
    """Copy the content of one directory into another, if that is empty; both are descriptors.

    Owners, modes, times and extended attributes are kept; the target takes those of the source too.
    """
    if not stat.S_ISDIR(os.fstat(source).st_mode) or not stat.S_ISDIR(os.fstat(target).st_mode):
        return
    reading, writing = _directory(source, "."), _directory(target, ".")
    try:
        if not os.listdir(writing):
            _tree(reading, writing)
            _attributes(reading, writing)
    finally:
        os.close(reading)
        os.close(writing)


def _directory(parent: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _tree(source: int, target: int) -> None:
    for name in os.listdir(source):
        there = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(there.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            below, into = _directory(source, name), _directory(target, name)
            _tree(below, into)
            _attributes(below, into)
            os.close(below)
            os.close(into)
        elif stat.S_ISREG(there.st_mode):
            _file(source, target, name)
        elif stat.S_ISLNK(there.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, there.st_uid, there.st_gid, dir_fd=target, follow_symlinks=False)
        else:
            os.mknod(name, there.st_mode, there.st_rdev, dir_fd=target)
            os.chown(name, there.st_uid, there.st_gid, dir_fd=target)


def _file(source: int, target: int, name: str) -> None:
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
    try:
        while os.sendfile(writing, reading, None, _CHUNK):
            pass
        _attributes(reading, writing)
    finally:
        os.close(reading)
        os.close(writing)


def _attributes(source: int, target: int) -> None:
    there = os.fstat(source)
    os.fchown(target, there.st_uid, there.st_gid)
    os.fchmod(target, stat.S_IMODE(there.st_mode))
    # not every file system keeps them, and some may not be set by us
    with wire.ignoring(OSError):
        for name in os.listxattr(source):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(there.st_atime_ns, there.st_mtime_ns))
