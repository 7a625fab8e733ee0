"""Which rule is for which image name.  Pure.

A pattern is a repository in which ``*`` stands for any characters, slashes too: ``reg.example.com/team/*``.
Names are complete before they are compared: ``nginx`` is ``docker.io/library/nginx``, and so the pattern is.
Of the rules that fit, the one with the most characters that are no ``*`` wins; of two alike the stricter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from swarmd.model.errors import Invalid
from swarmd.model.image_ref import DEFAULT_DOMAIN, ImageRef
from swarmd.model.registry import TrustRule

_FORM = re.compile(r"[a-zA-Z0-9*.\-_/:\[\]]+", re.ASCII)
_LONGEST = 255
_STRICT = ("accept", "require", "reject")


def complete(pattern: str) -> str:
    """The pattern as it is stored and compared.  Raises Invalid."""
    if not _FORM.fullmatch(pattern) or len(pattern) > _LONGEST or "//" in pattern or pattern[-1] in "/:":
        raise Invalid(
            f'invalid pattern "{pattern}": write a repository such as registry.example.com/team/app, '
            "with * for any characters; tags and digests are not part of it"
        )
    first, slash, rest = pattern.partition("/")
    if ":" in (rest or ("" if slash else first)):
        raise Invalid(f'invalid pattern "{pattern}": a rule is for a repository with all of its tags')
    if pattern == "*" or (slash and _is_domain(first)):
        return canonical(pattern)
    return f"{DEFAULT_DOMAIN}/{pattern}" if slash else f"{DEFAULT_DOMAIN}/library/{pattern}"


def canonical(name: str) -> str:
    """A registry on this machine has one name: ``127.0.0.1:5000/app`` is ``localhost:5000/app``."""
    host, colon, rest = name.partition(":")
    return f"localhost:{rest}" if colon and host == "127.0.0.1" else name


def matches(pattern: str, name: str) -> bool:
    """Whether a complete ``pattern`` fits a complete repository ``name``."""
    pieces = pattern.split("*")
    if len(pieces) == 1:
        return pattern == name
    if not name.startswith(pieces[0]):
        return False
    at = len(pieces[0])
    for piece in pieces[1:-1]:
        found = name.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return len(name) - at >= len(pieces[-1]) and name.endswith(pieces[-1])


def rule_for(rules: Iterable[TrustRule], name: str) -> TrustRule | None:
    """The rule for images called ``name`` (complete); None: nobody says anything of them."""
    fitting = [rule for rule in rules if matches(rule.id, canonical(name))]
    return max(fitting, key=_rank, default=None)


def stands_for(ref: ImageRef, names: Iterable[str]) -> tuple[ImageRef, ...]:
    """All that a reference with a digest has to be allowed as.

    Itself; and the ``names`` (complete; "" for an image without one) under which that digest is known, unless
    its own is one of them.
    """
    known = set(map(canonical, names))
    if canonical(ref.name) in known:
        return (ref,)
    return (ref, *(ImageRef(name, "", ref.digest) for name in sorted(known)))


def _rank(rule: TrustRule) -> tuple[int, int, str]:
    strict = _STRICT.index(rule.action) if rule.action in _STRICT else len(_STRICT)
    return (len(rule.id) - rule.id.count("*"), strict, rule.id)


def _is_domain(first: str) -> bool:
    return "." in first or ":" in first or "*" in first or first == "localhost" or first != first.lower()
