"""What an append may say before the Raft core hears it.  Pure.

The core cuts its log behind every accepted append, takes over the leader's commit index without asking what
the append verified, and answers each pipelined message behind a gap anew.  So:

- entries that are here already are taken out of the append; it only cuts where it truly conflicts,
- its commit index ends at the last entry it verified, and so does what is acknowledged,
- behind a gap the leader is sent back to our commit index, once per heartbeat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from swarmd.model.errors import SwarmError

CoreMessage = dict[str, Any]


class Append(msgspec.Struct, frozen=True):
    """``message`` as the core may see it; ``verified`` is the last index known equal to the leader's.

    ``verified`` is None when the entry before the append is not here, so that nothing is known.
    """

    message: CoreMessage
    verified: int | None


def sanitize_append(
    message: CoreMessage, *, last: int, committed: int, term_at: Callable[[int], int]
) -> Append:
    """Make ``message`` harmless for a log that ends at ``last`` and is committed up to ``committed``.

    ``term_at`` answers the term of an entry 1..last.  Raises SwarmError when the append would take back a
    committed entry: then a promise was broken somewhere and this member must not go on.
    """
    previous = message["prevLogIdx"]
    if not 1 <= previous <= last or term_at(previous) != message["prevLogTerm"]:
        return Append(message, None)
    entries = message["entries"]
    verified = previous + len(entries)
    kept = 0
    while kept < len(entries) and previous + kept < last and term_at(previous + kept + 1) == entries[kept][2]:
        kept += 1
    rest = entries[kept:]
    if rest and previous + kept < committed:
        raise SwarmError(
            f"Another manager wants to take back entry {previous + kept + 1}, but {committed} is committed."
        )
    # With nothing new the core must not cut what stands behind: let it look at the very end of the log.
    anchor = previous + kept if rest else last
    clean = message | {
        "prevLogIdx": anchor,
        "prevLogTerm": term_at(anchor),
        "entries": rest,
        "commit_index": min(message["commit_index"], verified),
    }
    return Append(clean, verified)


def answer_to_stale(term: int) -> CoreMessage:
    """Tells a leader of an older term that this member is at ``term``; says nothing of the log."""
    return {"type": "next_node_idx", "term": term, "next_node_idx": 1, "reset": False, "success": False}


def hopeless_request(term: int) -> CoreMessage:
    """Moves the core that gets it to ``term`` and wins no vote."""
    return {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": -1}
