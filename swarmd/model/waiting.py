"""Why a task waits for a node, in words that its error holds and that decisions are made by, too."""

from __future__ import annotations

PORT_IN_USE = "host-mode port already in use"
PLACES_TAKEN = "max replicas per node limit exceed"


def waits_for_its_own(error: str) -> bool:
    """Whether a task with this error may go where an older one of its own slot is, once that has ended."""
    return PORT_IN_USE in error or PLACES_TAKEN in error
