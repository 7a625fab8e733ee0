"""What our bundles say beyond config.json, in one annotation of our own that other runtimes pass over.

``overlay``: the image layers with the upper directory; ``user`` and ``groups``: names that only the
container's own files turn into numbers; ``subpaths`` of mounts, looked up safely instead of by their joined
path; ``copy-up``: the targets of empty volumes that get what the image has there.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from swarmd.model.errors import Invalid

PREFIX = "io.swarmd.runtime."
_VALUES = PREFIX + "extensions"


class Overlay(msgspec.Struct, frozen=True):
    """Host paths; ``lower`` topmost first."""

    lower: tuple[str, ...]
    upper: str
    work: str


class Extensions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``user`` None: the numbers of ``process.user`` hold.  ``subpaths``: target → (source, path in it)."""

    overlay: Overlay | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    subpaths: Mapping[str, tuple[str, str]] = {}
    copy_up: tuple[str, ...] = ()


def annotated(own: Mapping[str, str], extensions: Extensions) -> dict[str, str]:
    """Those of the user with ours; :class:`Invalid` if one of the user's has our prefix."""
    for name in own:
        if name.startswith(PREFIX):
            raise Invalid(f"annotation {name!r}: names that begin with {PREFIX} belong to the runtime")
    return {**own, _VALUES: msgspec.json.encode(extensions).decode()}


def extensions(found: Mapping[str, str]) -> Extensions:
    """Those of a spec's annotations; none in a bundle that is not ours."""
    text = found.get(_VALUES)
    if text is None:
        return Extensions()
    try:
        return msgspec.json.decode(text.encode(), type=Extensions)
    except msgspec.DecodeError as error:
        raise Invalid(f"config.json: annotation {_VALUES}: {error}") from None
