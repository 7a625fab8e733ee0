"""What a layer's entry means: its path inside the root, its whiteouts, the attributes we let in.

Pure.  Nothing here touches a file; :mod:`swarmd.image.unpack` acts on the answers.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from swarmd.image.core.tar import Entry, Kind
from swarmd.model.errors import Invalid

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."


class Limits(msgspec.Struct, frozen=True):
    """How much one layer may be: entries, bytes of a path, of a name in it, levels, bytes unpacked."""

    entries: int = 1_000_000
    path: int = 4096
    name: int = 255
    depth: int = 256
    bytes: int = 64 << 30


class Act(Enum):
    """What to do with an entry."""

    MAKE = "make"
    WHITEOUT = "whiteout"
    OPAQUE = "opaque"
    DROP = "drop"


class Step(msgspec.Struct, frozen=True):
    """``act`` on ``parts`` (components below the layer's root; empty: the root itself)."""

    act: Act
    parts: tuple[bytes, ...]


def shown(name: bytes) -> str:
    """A name for a message: printable, and not longer than a line."""
    text = name.decode("utf-8", "backslashreplace")
    return text if len(text) <= 120 else text[:120] + "..."


def components(name: bytes, limits: Limits) -> tuple[bytes, ...]:
    """``name`` as components below the root; ``/`` at its front and ``.`` are ignored.

    Raises :class:`Invalid` for ``..``, NUL bytes and names beyond the limits.
    """
    if len(name) > limits.path:
        raise Invalid(f"the layer has a path of {len(name)} bytes ({shown(name)}): limit {limits.path}")
    if b"\0" in name:
        raise Invalid(f"the layer has a name with a NUL byte: {shown(name)}")
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if len(parts) > limits.depth:
        raise Invalid(f"the layer has a path of {len(parts)} levels ({shown(name)}): limit {limits.depth}")
    for part in parts:
        if part == b"..":
            raise Invalid(f"the layer has a path that climbs out of its root: {shown(name)}")
        if len(part) > limits.name:
            raise Invalid(f"the layer has a name of {len(part)} bytes ({shown(part)}): limit {limits.name}")
    return parts


def step_for(entry: Entry, limits: Limits) -> Step:
    """Where ``entry`` goes and whether it makes something, hides something, or is dropped."""
    parts = components(entry.name, limits)
    if b"\0" in entry.link:
        raise Invalid(f"the layer has a link with a NUL byte: {shown(entry.name)}")
    if not parts:
        if entry.kind is not Kind.DIR:
            raise Invalid(f"the layer makes its root a {entry.kind.value}")
        return Step(Act.MAKE, parts)
    for part in parts[:-1]:
        if part.startswith(_AUFS):
            return Step(Act.DROP, parts)
        if part.startswith(_WHITEOUT):
            raise Invalid(f"the layer has an entry below a whiteout: {shown(entry.name)}")
    return _last(parts, entry.name)


def _last(parts: tuple[bytes, ...], name: bytes) -> Step:
    base = parts[-1]
    if base == _OPAQUE:
        return Step(Act.OPAQUE, parts[:-1])
    if base.startswith(_AUFS):
        return Step(Act.DROP, parts)
    if not base.startswith(_WHITEOUT):
        return Step(Act.MAKE, parts)
    hidden = base[len(_WHITEOUT) :]
    if hidden in (b"", b".", b".."):
        raise Invalid(f"the layer has a whiteout that names nothing: {shown(name)}")
    return Step(Act.WHITEOUT, (*parts[:-1], hidden))


def link_target(entry: Entry, limits: Limits) -> tuple[bytes, ...]:
    """Where a hard link points, below the same root."""
    parts = components(entry.link, limits)
    if not parts or any(part.startswith(_WHITEOUT) for part in parts):
        raise Invalid(f"the layer has a hard link {shown(entry.name)} to {shown(entry.link)}: no such file")
    return parts


def attributes(entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes an image may set.

    ``trusted.*`` and ``user.overlay.*`` would steer the overlay (redirects to foreign data), and a
    security label belongs to the machine, so only capabilities, ACLs and the user's own pass.
    """
    if not entry.xattrs:
        return ()
    return tuple((key, value) for key, value in entry.xattrs if is_allowed(key))


def is_allowed(key: bytes) -> bool:
    if b"\0" in key:
        return False
    if key in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"):
        return True
    return key.startswith(b"user.") and not key.startswith(b"user.overlay.")
