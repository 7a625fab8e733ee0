"""Waiting for the real thing: looked at again and again, with an end."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 120.0
_NOT_YET = (AssertionError, LookupError, OSError, ValueError, http.client.HTTPException)

_Seen = TypeVar("_Seen")


def eventually(
    what: str,
    look: Callable[[], _Seen],
    holds: Callable[[_Seen], object] = bool,
    *,
    seconds: float = PATIENCE,
) -> _Seen:
    """Look at the real thing ten times a second until ``holds``; answers what was seen then.

    A look that fails is one more that does not show it: while a leader is elected, no command is answered;
    a file, a connection or a process that is looked at may go meanwhile.  A command that hangs, or
    a look that is wrong itself, is told at once.
    """
    deadline = time.monotonic() + seconds
    while True:
        last = time.monotonic() >= deadline
        try:
            seen = look()
            if holds(seen):
                return seen
        except _NOT_YET:
            if last:
                raise
        else:
            assert not last, f"not within {seconds:.0f} s: {what}; last seen: {seen!r}"
        time.sleep(0.1)


def throughout(what: str, look: Callable[[], object], *, seconds: float) -> None:
    """The condition holds at every look for that long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert look(), what
        time.sleep(0.1)
