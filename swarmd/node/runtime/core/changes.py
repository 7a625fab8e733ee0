"""Decide what ``docker diff`` says of a writable layer: A added, C changed, D deleted, parents as C.

upper layer (overlayfs)         below     says
a name                          absent    A
a name                          present   C; a directory that only holds changes as well
a whiteout                                D
an opaque directory             present   C, and D for each name that is seen no more
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

Change = tuple[str, str]
"""("A", "C" or "D", absolute path)."""

FILES_OF_OURS = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev", "/proc", "/sys")
"""Places where something is mounted in every container: made for that, if the image has them not."""


class Upper(msgspec.Struct, frozen=True):
    """One name of the writable layer, by absolute path; ``opaque``: it hides what the image has in it."""

    path: str
    is_whiteout: bool = False
    is_directory: bool = False
    opaque: bool = False


Below = Callable[[str], bool]
"""Whether the image has something at a path."""

Names = Callable[[str], Iterable[str]]
"""The names that the image has in a directory; none for what is no directory."""


def changes(found: Iterable[Upper], below: Below, names: Names, mounted: Iterable[str]) -> list[Change]:
    """The list, sorted by path.  ``mounted``: places where something is mounted, which no change explains."""
    uppers = {each.path: each for each in found if each.path != "/"}
    said: dict[str, str] = {}
    for upper in uppers.values():
        said[upper.path] = _kind(upper, below)
        if upper.opaque and said[upper.path] == "C":
            said.update(dict.fromkeys(_hidden(upper, uppers, names), "D"))
    for path in list(said):
        for parent in _parents(path):
            said.setdefault(parent, "C")
    for place in sorted({*mounted, *FILES_OF_OURS}, key=len, reverse=True):
        _forget(said, place.rstrip("/"))
    return sorted(((kind, path) for path, kind in said.items()), key=lambda change: change[1].split("/"))


def _kind(upper: Upper, below: Below) -> str:
    if upper.is_whiteout:
        return "D"
    return "C" if below(upper.path) else "A"


def _hidden(upper: Upper, uppers: Mapping[str, Upper], names: Names) -> Iterator[str]:
    for name in names(upper.path):
        path = f"{upper.path}/{name}"
        if path not in uppers:
            yield path


def _parents(path: str) -> Iterator[str]:
    while (path := path.rpartition("/")[0]) != "":
        yield path


def _forget(said: dict[str, str], place: str) -> None:
    """What was made for a mount to cover it, with directories made for nothing else."""
    for path in (place, *_parents(place)):
        only = said.get(path) == "A" or (path != place and said.get(path) == "C")
        if not only or any(other.startswith(f"{path}/") for other in said):
            return
        del said[path]
