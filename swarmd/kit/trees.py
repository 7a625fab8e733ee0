"""Directory trees that somebody else has filled: removed and measured, whatever was built there.

Everything goes by directory descriptors and no link is followed, so a tree that changes meanwhile leads
nowhere else.  Nesting costs neither stack nor descriptors: a path of any depth is an ordinary one here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512
_DEEPEST = 200
_GONE = (FileNotFoundError, NotADirectoryError)


def remove_tree(path: Path) -> None:
    """``path`` and all below it.  Raises OSError for what cannot be removed; the rest may be gone then.

    Each directory found is moved up to the top before it is looked into, so it is never deep.
    """
    top = os.open(path, _DIRECTORY)
    try:
        numbers = itertools.count()
        moved = _empty(top, top, numbers)
        while moved:
            name = moved.pop()
            with _opened(name, top) as directory:
                moved += _empty(directory, top, numbers)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def disk_use(path: Path) -> int:
    """Bytes that files below ``path`` take; one with several names counts once.

    What vanishes meanwhile does not count, nor what lies more than 200 directories deep.
    """
    total = 0
    counted: set[tuple[int, int]] = set()
    for directory, name in _files(path):
        with contextlib.suppress(*_GONE):
            seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if seen.st_nlink == 1 or (seen.st_dev, seen.st_ino) not in counted:
                total += seen.st_blocks * _BLOCK
            if seen.st_nlink > 1:
                counted.add((seen.st_dev, seen.st_ino))
    return total


def _empty(directory: int, top: int, numbers: Iterator[int]) -> list[str]:
    """Remove the files of a directory and move its directories to the top; answers their names there."""
    below, others = _look(directory)
    taken = {*below, *others} if directory == top else set()
    moved = []
    for name in below:
        fresh = next(new for new in (f".{number}" for number in numbers) if new not in taken)
        os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=top)
        moved.append(fresh)
    for name in others:
        os.unlink(name, dir_fd=directory)
    return moved


def _files(path: Path) -> Iterator[tuple[int, str]]:
    """(descriptor of its directory, name) of everything below that is no directory."""
    stack: list[tuple[int, list[str]]] = []
    try:
        name, parent = os.fspath(path), None
        while True:
            with contextlib.suppress(*_GONE):
                stack.append((os.open(name, _DIRECTORY, dir_fd=parent), []))
                below, others = _look(stack[-1][0])
                stack[-1][1].extend(below if len(stack) < _DEEPEST else ())
                yield from ((stack[-1][0], other) for other in others)
            while stack and not stack[-1][1]:
                os.close(stack.pop()[0])
            if not stack:
                return
            parent, name = stack[-1][0], stack[-1][1].pop()
    finally:
        for directory, _ in stack:
            os.close(directory)


def _look(directory: int) -> tuple[list[str], list[str]]:
    """The names of the directories in a directory, and of the other things in it."""
    below: list[str] = []
    others: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            (below if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
    return below, others


@contextlib.contextmanager
def _opened(name: str, directory: int) -> Iterator[int]:
    descriptor = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
