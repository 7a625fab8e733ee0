"""A tree of files to copy from, whatever it lies in, and how its paths are followed.

Pure but for the tree's own answers.  Paths are relative to its root, without a leading slash; "" is the root.
Bytes that are no UTF-8 are kept as surrogates.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from swarmd.model.errors import Invalid

Kind = Literal["file", "directory", "link", "node"]
_MOST_LINKS = 255


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One entry.  ``mode``: permission bits; ``node``: the file type's bits of a device or a fifo, else 0.

    ``same`` tells the names of one file from those of others; None when nobody knows.
    """

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: str = ""
    node: int = 0
    device: int = 0
    same: tuple[int, int] | None = None
    xattrs: Mapping[str, bytes] = {}


class Tree(Protocol):
    """Where files come from."""

    def look(self, path: str) -> Item | None:
        """What is there, a link itself included; None for nothing.  The way to it has no links."""
        ...

    def names(self, path: str) -> Sequence[str]:
        """Of a directory."""
        ...

    def digest(self, path: str) -> str:
        """SHA-256 of a file's content."""
        ...

    def write(self, path: str, fd: int) -> None:
        """A file's content, written to a descriptor."""
        ...


def followed(tree: Tree, path: str) -> str:
    """``path`` with all links on it followed, inside the root; what is missing is left as it is.

    Raises Invalid for links without end.
    """
    done: list[str] = []
    waiting = _parts(path)
    links = 0
    while waiting:
        part = waiting.pop(0)
        if part == "..":
            done[-1:] = []
            continue
        found = tree.look("/".join([*done, part]))
        if found is None or found.kind != "link":
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise Invalid(f"too many symbolic links on the way to /{path}")
        if found.link.startswith("/"):
            done.clear()
        waiting[:0] = _parts(found.link)
    return "/".join(done)


def walk(tree: Tree, path: str) -> Iterator[tuple[str, Item]]:
    """All below a directory, each directory before what is in it: (path from there, item)."""
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        for name in sorted(tree.names(join(path, directory))):
            inner = join(directory, name)
            item = tree.look(join(path, inner))
            if item is None:
                continue
            yield inner, item
            if item.kind == "directory":
                waiting.append(inner)


def join(*parts: str) -> str:
    """Paths from the root, put together."""
    return "/".join(part for part in parts if part)


def base(path: str) -> str:
    """The last name of a path; empty for the root."""
    return posixpath.basename(path.rstrip("/"))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
