"""Ids and randomness, handed in.  An id is 25 characters of base 36 (128 bits), as Swarm's are."""

from __future__ import annotations

import secrets
from collections.abc import Callable

ID_LENGTH = 25
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

NewId = Callable[[], str]


def base36(number: int, width: int) -> str:
    """``number`` in base 36, left-padded with zeros to ``width`` digits."""
    out: list[str] = []
    while number:
        number, digit = divmod(number, 36)
        out.append(_DIGITS[digit])
    return "".join(reversed(out)).rjust(width, "0")


def new_id() -> str:
    """A fresh random id."""
    return base36(secrets.randbits(128), ID_LENGTH)


def random_fraction() -> float:
    """A uniform number in [0, 1), for jitter."""
    return secrets.randbits(53) / (1 << 53)


def random_seed() -> int:
    """64 random bits, to seed a generator."""
    return secrets.randbits(64)


def random_bytes(count: int) -> bytes:
    """A fresh key."""
    return secrets.token_bytes(count)
