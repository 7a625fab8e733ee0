"""What a runtime puts into a layer only to mount over it, found beforehand and taken away afterwards.

Blocking; for threads.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from swarmd.image.build.core.tree import Item, followed, join
from swarmd.node.building.merged import Merged, item_of

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ALWAYS = ("dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf")


def missing(targets: Iterable[str], lowers: Sequence[Path]) -> tuple[str, ...]:
    """Paths that the layers below do not have and a mount on ``targets`` makes, the deepest first."""
    merged = Merged(lowers)
    try:
        lacking: set[str] = set()
        for target in (*ALWAYS, *targets):
            path = ""
            for part in followed(merged, target.strip("/")).split("/"):
                path = join(path, part)
                if path in lacking or merged.look(path) is None:
                    lacking.add(path)
        return tuple(sorted(lacking, key=lambda path: (-path.count("/"), path)))
    finally:
        merged.close()


def clear(upper: Path, paths: Iterable[str], lowers: Sequence[Path]) -> None:
    """Take away what is still empty of them, and directories above that came along unchanged."""
    merged = Merged(lowers)
    top = os.open(upper, _DIRECTORY)
    try:
        above = {path.rpartition("/")[0] for path in paths}
        for path in paths:
            _remove(top, path, None)
        for path in sorted(above - {""}, key=lambda path: -path.count("/")):
            below = merged.look(path)
            while path and below is not None:
                _remove(top, path, below)
                path = path.rpartition("/")[0]
                below = merged.look(path) if path else None
    finally:
        os.close(top)
        merged.close()


def _remove(top: int, path: str, below: Item | None) -> None:
    """An empty file or directory; with ``below`` only a directory that looks as that does."""
    parent, _, name = path.rpartition("/")
    with contextlib.suppress(OSError):
        fd = _opened(top, parent)
        try:
            seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(seen.st_mode):
                found = item_of(fd, name, seen)
                looks = (found.mode, found.uid, found.gid, found.xattrs)
                if below is None or looks == (below.mode, below.uid, below.gid, below.xattrs):
                    os.rmdir(name, dir_fd=fd)
            elif below is None and stat.S_ISREG(seen.st_mode) and seen.st_size == 0:
                os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)


def _opened(top: int, path: str) -> int:
    fd = os.dup(top)
    for part in path.split("/") if path else ():
        try:
            deeper = os.open(part, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd
