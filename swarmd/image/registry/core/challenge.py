"""What a registry says in ``WWW-Authenticate``: how it wants to know who asks.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

_PART = re.compile(
    r"""\s*,?\s*(?:
        (?P<name>[\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))
      | (?P<scheme>[\w!#$%&'*+.^`|~-]+)
    )""",
    re.VERBOSE | re.ASCII,
)


class Challenge(msgspec.Struct, frozen=True):
    """One way to be let in.  ``scheme`` and the names of ``values`` are in lower case."""

    scheme: str
    values: dict[str, str] = {}

    @property
    def scopes(self) -> tuple[str, ...]:
        """What a token is to be good for."""
        return tuple(self.values.get("scope", "").split())


def challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All of them, in their order; what cannot be read is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        position = 0
        while (part := _PART.match(header, position)) is not None and part.end() > position:
            position = part.end()
            if part["scheme"]:
                found.append((part["scheme"].lower(), {}))
            elif found:
                quoted = part["quoted"]
                value = part["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                found[-1][1][part["name"].lower()] = value
    return tuple(Challenge(scheme, values) for scheme, values in found)


def chosen(found: Iterable[Challenge]) -> Challenge | None:
    """The one to answer: a token before a password; None when there is none we know."""
    known = {each.scheme: each for each in reversed(tuple(found)) if _is_usable(each)}
    return known.get("bearer") or known.get("basic")


def _is_usable(challenge: Challenge) -> bool:
    return challenge.scheme == "basic" or (challenge.scheme == "bearer" and "realm" in challenge.values)
