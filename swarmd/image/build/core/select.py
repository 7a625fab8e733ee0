"""Decide which entries of a tree COPY and ADD mean, and under which names they come.

::

    a.txt          the file                     app/       what is in the directory
    *.py           each that matches            a/./b/c    with --parents: b/c
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import msgspec

from swarmd.image.build.core.ignore import Ignore
from swarmd.image.build.core.match import has_wildcards, matches, plain
from swarmd.image.build.core.tree import Item, Tree, base, followed, join, walk
from swarmd.model.errors import Invalid, NotFound

_WILD = re.compile(r"[*?\[\\]")


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """``path`` in the tree, links followed; ``name`` below the destination; ``parents``: its directories in
    the tree that come along, (path, name) from the top."""

    path: str
    name: str
    item: Item
    parents: tuple[tuple[str, str], ...] = ()


def choose(tree: Tree, sources: Sequence[str], *, parents: bool, where: str) -> tuple[Chosen, ...]:
    """What ``sources`` mean.  Raises NotFound for a plain one that is not there; ``where`` names the tree."""
    found: list[Chosen] = []
    for source in sources:
        pivot, path = _pivoted(source) if parents else ("", _clean(source))
        expanded = _expanded(tree, path, where)
        found.extend(_chosen(tree, one, pivot, parents=parents) for one in expanded)
    return tuple(found)


def contents(tree: Tree, chosen: Chosen, exclude: Sequence[str]) -> Iterator[tuple[str, str, Item]]:
    """All that comes with one choice but what is excluded: (path in the tree, name below it, item).

    The choice itself is first, under the name ""; a directory is before what is in it.
    """
    is_excluded = Ignore(exclude).ignores if exclude else _never
    if chosen.item.kind != "directory":
        if not is_excluded(base(chosen.path)):
            yield chosen.path, "", chosen.item
        return
    yield chosen.path, "", chosen.item
    for inner, item in walk(tree, chosen.path):
        if not is_excluded(inner):
            yield join(chosen.path, inner), inner, item


def content_digest(
    tree: Tree,
    chosen: Sequence[Chosen],
    exclude: Sequence[str],
    *,
    owners: bool,
) -> str:
    """Of all that is chosen: names, kinds, modes, contents, links, attributes and, if they matter, owners;
    times are no part of it."""
    total = hashlib.sha256()
    for one in chosen:
        for path, name in one.parents:
            item = tree.look(path)
            if item is not None:
                total.update(_line(tree, path, name, item, owners=owners))
        for path, inner, item in sorted(contents(tree, one, exclude), key=lambda each: each[1]):
            total.update(_line(tree, path, join(one.name, inner), item, owners=owners))
    return total.hexdigest()


def _line(tree: Tree, path: str, name: str, item: Item, *, owners: bool) -> bytes:
    content = tree.digest(path) if item.kind == "file" else item.link
    fields = (
        name, item.kind, item.mode, (item.uid, item.gid) if owners else (), content, item.node, item.device,
        sorted((key, value.hex()) for key, value in item.xattrs.items()),
    )  # fmt: skip
    return repr(fields).encode() + b"\n"


def _chosen(tree: Tree, path: str, pivot: str, *, parents: bool) -> Chosen:
    real = followed(tree, path)
    item = tree.look(real) or Item(kind="directory")
    if not parents:
        return Chosen(path=real, name="" if item.kind == "directory" else base(path), item=item)
    name = path.removeprefix(pivot).lstrip("/") if pivot else path
    above = name.split("/")[:-1]
    ways = ["/".join(above[: depth + 1]) for depth in range(len(above))]
    return Chosen(
        path=real,
        name=name,
        item=item,
        parents=tuple((followed(tree, join(pivot, way)), way) for way in ways),
    )


def _expanded(tree: Tree, path: str, where: str) -> list[str]:
    if not has_wildcards(path):
        path = plain(path)
        if path and tree.look(followed(tree, path)) is None:
            raise NotFound(f'"/{path}": not found in {where}')
        return [path]
    fixed = _WILD.split(path, maxsplit=1)[0].rpartition("/")[0]
    top = followed(tree, fixed)
    item = tree.look(top) if top else Item(kind="directory")
    if item is None or item.kind != "directory":
        return []
    depth = path.count("/")
    found = []
    for inner, _ in walk(tree, top):
        whole = join(fixed, inner)
        if whole.count("/") == depth and matches(path, whole):
            found.append(whole)
    return sorted(found)


def _pivoted(source: str) -> tuple[str, str]:
    """``a/./b/c`` → ("a", "a/b/c")."""
    before, dot, after = source.partition("/./")
    if not dot:
        return "", _clean(source)
    pivot = _clean(before)
    return pivot, join(pivot, _clean(after))


def _clean(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts[-1:] = []  # as in a root directory: it leads nowhere else
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _never(path: str) -> bool:
    return False


def check_destination(destination: str, chosen: Sequence[Chosen], *, parents: bool) -> None:
    """Raises Invalid where several sources would become one file."""
    if len(chosen) > 1 and not destination.endswith("/") and not parents:
        raise Invalid(
            "when using COPY with more than one source file, "
            "the destination must be a directory and end with a /"
        )
