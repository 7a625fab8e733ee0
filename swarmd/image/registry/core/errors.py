"""What a registry's refusal means to the user, in Docker's words.  Pure."""

from __future__ import annotations

import msgspec

from swarmd.model.errors import Denied, Invalid, NotFound, Refused, SwarmError, Unavailable

MAX_ERROR = 64 << 10
PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that another try may not get."""


class _Item(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct, frozen=True):
    errors: tuple[_Item, ...] = ()


class _Details(msgspec.Struct, frozen=True):
    details: str = ""
    error_description: str = ""


def codes(body: bytes) -> tuple[str, ...]:
    """The codes in the body of a refusal, in their order."""
    return tuple(item.code for item in _items(body))


def sentence(status: int, body: bytes) -> str:
    """What the registry says: ``code: message`` as Docker shows it."""
    texts = [_one(item) for item in _items(body)]
    if texts:
        return "; ".join(texts)
    said = _details(body)
    if status == 401:
        return f"unauthorized: {said or 'authentication required'}"
    if status == 403:
        return f"denied: {said or 'requested access to the resource is denied'}"
    if status == 429:
        return f"toomanyrequests: {said or 'too many requests'}"
    return f"received unexpected HTTP status {status}" + (f": {said}" if said else "")


def failure(status: int, body: bytes, *, about: str = "", more: str = "") -> SwarmError:
    """The error for an answer that is no success.  ``about``: what was asked for; ``more``: another word."""
    text = sentence(status, body) + (f" ({more})" if more else "")
    if about:
        text = f"{about}: {text}"
    if status in (401, 403):
        return Denied(text)
    if status == 404:
        return NotFound(text)
    if status in PASSING:
        return Unavailable(text)
    return Refused(text) if status == 405 else Invalid(text)


def manifest_failure(status: int, body: bytes, name: str, *, more: str = "") -> SwarmError:
    """The same for a manifest of the image ``name``, as ``docker pull`` says it."""
    if status == 404:
        return NotFound(f"manifest for {name} not found: {sentence(status, body)}")
    if status in (401, 403):
        return Denied(
            f"pull access denied for {_repository(name)}, repository does not exist or may require "
            f"'swarmctl login': {sentence(status, body)}"
        )
    return failure(status, body, more=more)


def _repository(name: str) -> str:
    head = name.partition("@")[0]
    stem, colon, tag = head.rpartition(":")
    return stem if colon and "/" not in tag else head


def _one(item: _Item) -> str:
    word = item.code.lower().replace("_", " ")
    return f"{word}: {_plain(item.message)}" if item.message else word


def _items(body: bytes) -> tuple[_Item, ...]:
    try:
        return msgspec.json.decode(body, type=_Errors).errors[:5]
    except msgspec.MsgspecError:
        return ()


def _details(body: bytes) -> str:
    """What token servers say instead."""
    try:
        found = msgspec.json.decode(body, type=_Details)
    except msgspec.MsgspecError:
        return ""
    return _plain(found.details or found.error_description)


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:500])
