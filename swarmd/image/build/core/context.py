"""Read the list of a build context that a client sends, as far as it can be believed.  Pure.

A name is relative, without ``..``, and lies in directories, never behind a link.  Owners are no part of it:
what comes from a context belongs to root.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from swarmd.image.build.core.tree import Item, Kind
from swarmd.model.errors import Invalid

_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_LONGEST = 4096
_MOST = 1_000_000
FEW = 500
"""Entries that are looked through within some milliseconds."""


class Told(msgspec.Struct, frozen=True):
    """An entry as a client lists it.  ``mode``: as in stat; ``digest``: SHA-256 of a file, hexadecimal."""

    path: str
    mode: int
    size: int = 0
    mtime_ns: int = 0
    link: str = ""
    digest: str = ""


class Listing(msgspec.Struct, frozen=True):
    """``items`` by path, ``names`` of each directory, ``files``: path → (number in the list, digest)."""

    items: Mapping[str, Item]
    names: Mapping[str, Sequence[str]]
    files: Mapping[str, tuple[int, str]]

    @property
    def is_small(self) -> bool:
        """Whether looking through all of it is done in a moment."""
        return len(self.items) <= FEW


def read_listing(told: Iterable[Told]) -> Listing:
    """The context that a list describes; directories left out are made up.  Raises Invalid."""
    items: dict[str, Item] = {"": Item(kind="directory")}
    names: dict[str, list[str]] = {"": []}
    files: dict[str, tuple[int, str]] = {}
    for number, one in enumerate(told):
        if number >= _MOST:
            raise Invalid(f"the build context has more than {_MOST} entries: add a .dockerignore file")
        item = _item(one)
        _put(items, names, one.path, item)
        if item.kind == "file":
            files[one.path] = (number, _digest(one))
    return Listing(items, {path: sorted(inside) for path, inside in names.items()}, files)


def _put(items: dict[str, Item], names: dict[str, list[str]], path: str, item: Item) -> None:
    parent, _, name = path.rpartition("/")
    if parent not in items:
        _put(items, names, parent, Item(kind="directory"))
    if items[parent].kind != "directory":
        raise Invalid(f"the build context has {path!r}, but {parent!r} is no directory")
    earlier = items.get(path)
    if earlier is None:
        names[parent].append(name)
    elif earlier.kind != item.kind:
        raise Invalid(f"the build context has {path!r} twice, as a {earlier.kind} and as a {item.kind}")
    items[path] = item
    if item.kind == "directory":
        names.setdefault(path, [])


def _item(one: Told) -> Item:
    _check_name(one.path)
    kind = _KINDS.get(stat.S_IFMT(one.mode))
    if kind is None:
        raise Invalid(f"the build context has {one.path!r}, which is no file, directory or link")
    if one.size < 0 or (kind == "link" and not one.link) or "\0" in one.link or len(one.link) > _LONGEST:
        raise Invalid(f"the build context describes {one.path!r} in a way that cannot be")
    return Item(
        kind=kind,
        mode=stat.S_IMODE(one.mode),
        size=one.size if kind == "file" else 0,
        mtime_ns=one.mtime_ns,
        link=one.link if kind == "link" else "",
    )


def _check_name(path: str) -> None:
    parts = path.split("/")
    bad = not path or "\0" in path or len(path) > _LONGEST or any(len(part) > 255 for part in parts)
    if bad or any(part in ("", ".", "..") for part in parts):
        raise Invalid(f"the build context has a name that leads nowhere: {path[:200]!r}")


def _digest(one: Told) -> str:
    if len(one.digest) != 64 or one.digest.strip("0123456789abcdef"):
        raise Invalid(f"the build context gives no SHA-256 of {one.path!r}")
    return one.digest
