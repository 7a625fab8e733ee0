"""Which host devices the operator of a node lets services have: patterns of paths, and what a match means."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection

import msgspec

from swarmd.model.errors import Invalid
from swarmd.model.objects import EVERY_DEVICE

_MAGIC = re.compile(r"[*?\[]")


class Found(msgspec.Struct, frozen=True):
    """A device as it is on this node: where its links lead, and whether it holds the node's own files."""

    path: str
    real_path: str
    of_root_disk: bool = False


def check_patterns(patterns: Collection[str]) -> None:
    """Raises :class:`Invalid` for a pattern that could never match what is meant."""
    for pattern in patterns:
        if pattern != EVERY_DEVICE and (not pattern.startswith("/") or ".." in pattern.split("/")):
            raise Invalid(f'device_allow "{pattern}": write a path like /dev/kvm or /dev/dri/*, or * for all')


def allows(patterns: Collection[str], device: Found) -> bool:
    """Whether the list has the device, by the name asked for or by the one its links lead to.

    A disk with the node's own files must be listed by its very path: no wildcard means it.
    """
    names = {posixpath.normpath(device.path), posixpath.normpath(device.real_path)}
    if device.of_root_disk:
        return any(pattern in names for pattern in patterns)
    return any(_matches(pattern, name) for pattern in patterns for name in names)


def _matches(pattern: str, path: str) -> bool:
    """``*`` and ``?`` stay within one directory, ``**`` does not."""
    if pattern in (EVERY_DEVICE, path):
        return True
    return bool(_MAGIC.search(pattern)) and re.fullmatch(_expression(pattern), path) is not None


def _expression(pattern: str) -> str:
    pieces = re.split(r"(\*\*|\*|\?|\[[^\]/]+\])", pattern)
    known = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(_piece(piece, known) for piece in pieces)


def _piece(piece: str, known: dict[str, str]) -> str:
    if piece in known:
        return known[piece]
    if piece.startswith("[") and piece.endswith("]"):
        negated = piece[1] in "!^"
        members = re.escape(piece[2:-1] if negated else piece[1:-1]).replace(r"\-", "-")
        return f"[{'^' if negated else ''}{members}]"
    return re.escape(piece)


def fixed_part(pattern: str) -> str:
    """The directory below which everything that matches is."""
    if pattern == EVERY_DEVICE:
        return "/dev"
    whole = _MAGIC.search(pattern)
    return posixpath.dirname(pattern[: whole.start()] if whole else pattern)
