"""Look-ups in the layers below the one being unpacked: inherited directories, linked files.

A layer may leave out a parent directory, or link to a file, that only a lower layer has.  Lower trees
are ours, but came from images: every component is opened without following symbolic links.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPAQUE = "trusted.overlay.opaque"


class Lowers:
    """The unpacked layers below, topmost first."""

    def __init__(self, trees: tuple[Path, ...]) -> None:
        self._trees = trees

    @contextlib.contextmanager
    def holder(self, parts: tuple[bytes, ...]) -> Iterator[tuple[int, bytes] | None]:
        """The directory fd and last name of what the merged lowers show at ``parts``, else None."""
        for tree in self._trees:
            fd = os.open(tree, _DIRECTORY)
            try:
                fd, found = _walk(fd, parts)
                if found is True:
                    yield fd, parts[-1]
                    return
                if found is None:
                    break
            finally:
                os.close(fd)
        yield None


def _walk(fd: int, parts: tuple[bytes, ...]) -> tuple[int, bool | None]:
    """Go to the parent of ``parts``: True found, False look further down, None hidden for good.

    Takes over ``fd`` and answers the one that is open now.
    """
    opaque = False
    for depth, part in enumerate(parts):
        opaque = opaque or is_opaque(fd)
        try:
            seen = os.stat(part, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return fd, None if opaque else False
        if is_whiteout(seen):
            return fd, None
        if depth == len(parts) - 1:
            return fd, True
        if not stat.S_ISDIR(seen.st_mode):
            return fd, None
        below = os.open(part, _DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd, False


def is_whiteout(seen: os.stat_result) -> bool:
    """Whether this is overlayfs's mark of a deleted name."""
    return stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0


def is_opaque(fd: int) -> bool:
    """Whether a directory hides what lower layers have in it."""
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError:
        return False
