"""What a caller may be told.  Every edge maps ``kind``; nobody matches on text.

The text is a sentence for a person: which field, which value, what to do.
"""

from __future__ import annotations

from typing import ClassVar


class SwarmError(Exception):
    """Base of everything that is shown to a user instead of a stack trace."""

    kind: ClassVar[str] = "internal"


class Invalid(SwarmError):
    """A request that can never succeed as it stands."""

    kind = "invalid"


class NotFound(SwarmError):
    """The object named does not exist."""

    kind = "not_found"


class Conflict(SwarmError):
    """A name, port or address is taken already."""

    kind = "conflict"


class OutOfSequence(SwarmError):
    """The object changed since it was read; read it again and retry."""

    kind = "out_of_sequence"


class Refused(SwarmError):
    """Valid, but not in the present state (last manager, node not down, ...)."""

    kind = "refused"


class Denied(SwarmError):
    """The caller's certificate or token does not allow this."""

    kind = "denied"


class NotManager(SwarmError):
    """The node asked is no manager, or not part of a swarm."""

    kind = "not_manager"


class Unavailable(SwarmError):
    """Nobody can answer now: no leader, no quorum, a full disk.  Retrying may help."""

    kind = "unavailable"


class OutcomeUnknown(Unavailable):
    """Nobody can say whether the change was made, or will be.  Look before trying again."""

    kind = "outcome_unknown"


class NotUnderstood(SwarmError):
    """The log or a snapshot holds what this version does not know: going on would diverge."""


OLDER = (
    "whoever was asked runs an older version of swarmd, which does not know this command: upgrade it "
    "(`swarmctl node ls` shows the version of each node), then try again"
)
"""What a call comes to that the other side's version does not have."""

KINDS: dict[str, type[SwarmError]] = {
    error.kind: error
    for error in (
        SwarmError, Invalid, NotFound, Conflict, OutOfSequence, Refused, Denied, NotManager, Unavailable,
        OutcomeUnknown,
    )
}  # fmt: skip
