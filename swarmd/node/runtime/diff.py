"""What a container has changed in its file system: its writable layer, read while it may be running.

Blocking; for threads.  The container owns the names in its layer: no link in it is ever followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from swarmd.image.lowers import OPAQUE, Lowers, is_whiteout
from swarmd.kit.tree.confined import held, open_below
from swarmd.node.runtime.core.changes import Change, Upper, changes

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)


def layer_changes(upper: Path, lowers: tuple[str, ...], mounted: tuple[str, ...]) -> list[Change]:
    """A/C/D of the layer at ``upper`` over ``lowers`` (topmost first); OSError when it cannot be read.

    ``mounted``: where something is mounted in the container.
    """
    image = _Image(tuple(Path(lower) for lower in lowers))
    with held(os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as top:
        return changes(_walk(top), image.has, image.names, mounted)


def _walk(top: int) -> Iterator[Upper]:
    waiting = ["."]
    while waiting:
        directory = waiting.pop()
        try:
            fd = open_below(top, directory, _DIRECTORY)
        except OSError as error:
            if error.errno in _GONE:  # it went, or is another thing by now
                continue
            raise
        with held(fd):
            for name in os.listdir(fd):
                with contextlib.suppress(FileNotFoundError):
                    seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    inner = name if directory == "." else f"{directory}/{name}"
                    is_directory = stat.S_ISDIR(seen.st_mode)
                    if is_directory:
                        waiting.append(inner)
                    yield Upper(
                        f"/{inner}", is_whiteout(seen), is_directory, is_directory and _hides(fd, name)
                    )


def _hides(parent: int, name: str) -> bool:
    try:
        with held(os.open(name, _DIRECTORY, dir_fd=parent)) as fd:
            return os.getxattr(fd, OPAQUE) == b"y"
    except OSError:
        return False


class _Image:
    """What the layers below show together."""

    def __init__(self, trees: tuple[Path, ...]) -> None:
        self._lowers = Lowers(trees)
        self._trees = trees

    def has(self, path: str) -> bool:
        with self._lowers.holder(_parts(path)) as found:
            return found is not None

    def names(self, path: str) -> list[str]:
        seen: set[str] = set()
        for tree in self._trees:
            with contextlib.suppress(OSError), held(os.open(tree, _DIRECTORY)) as root:
                seen.update(_names(root, path[1:]))
        return sorted(name for name in seen if self.has(f"{path}/{name}"))


def _names(root: int, path: str) -> list[str]:
    with held(open_below(root, path, _DIRECTORY)) as fd:
        return os.listdir(fd)


def _parts(path: str) -> tuple[bytes, ...]:
    return tuple(os.fsencode(part) for part in path.split("/") if part)
