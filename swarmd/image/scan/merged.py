"""Files of an image as its containers would see them, from its unpacked layers, without mounting anything.

Blocking; for threads.  Every directory is visited where it really is, and no symbolic link is followed: what
is opened was seen to be no link, and an unpacked layer never changes.  What an upper layer replaced, whited
out or made opaque is not seen.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from swarmd.image.lowers import is_opaque, is_whiteout

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST = 4000
"""Bytes of a path that the kernel takes."""

Wanted = Callable[[str], int]
"""How many bytes to read at most of the file of that path; 0: it is not wanted."""

_Seen = tuple[str, os.stat_result]


def files(layers: Sequence[Path], wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Path (without a leading slash) and content of the regular files that are wanted.

    ``layers``: topmost first.  A file longer than wanted is cut off there.  Raises OSError.
    """
    with contextlib.ExitStack() as opened:
        roots: list[int] = []
        for layer in layers:
            roots.append(os.open(layer, _DIRECTORY))
            opened.callback(os.close, roots[-1])
        todo: list[tuple[str, list[int]]] = [("", roots)]
        while todo:
            path, parts = todo.pop()
            found, below = _merged(path, parts)
            for name, root in found:
                most = wanted(path + name)
                if most:
                    yield path + name, _content(root, path + name, most)
            todo += [(f"{path}{name}/", below[name]) for name in sorted(below, reverse=True)]


def _merged(path: str, parts: list[int]) -> tuple[list[tuple[str, int]], dict[str, list[int]]]:
    """Regular files of a merged directory, and its directories, each with the layers that make it.

    ``parts``: roots of the layers that have a part of it, topmost first.
    """
    files_: list[tuple[str, int]] = []
    below: dict[str, list[int]] = {}
    closed: set[str] = set()
    for root in parts:
        entries, opaque = _listed(root, path)
        for name, seen in entries:
            if name in closed:
                continue
            if stat.S_ISDIR(seen.st_mode) and len(os.fsencode(path + name)) < _LONGEST:
                below.setdefault(name, []).append(root)
                continue
            # Whatever it is, it hides what is below it; under a directory it is itself not seen.
            closed.add(name)
            if stat.S_ISREG(seen.st_mode) and name not in below and not is_whiteout(seen):
                files_.append((name, root))
        if opaque:
            break
    return files_, below


def _listed(root: int, path: str) -> tuple[list[_Seen], bool]:
    """A layer's own entries there, and whether they are all there is."""
    directory = os.open(path or ".", _DIRECTORY, dir_fd=root)
    try:
        with os.scandir(directory) as entries:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        return sorted(found, key=lambda one: one[0]), is_opaque(directory)
    finally:
        os.close(directory)


def _content(root: int, path: str, most: int) -> bytes:
    descriptor = os.open(path, _FILE, dir_fd=root)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most)
