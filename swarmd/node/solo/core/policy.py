"""Decide what becomes of a single container that ended, or that a starting daemon finds ended.

ended ──► wanted still, and its policy says so? ──► wait (100 ms, doubled each time) ──► start
"""

from __future__ import annotations

from swarmd.node.solo.core.record import Record

FIRST, MOST = 0.1, 60.0
"""Seconds before a restart: Docker's."""

STEADY = 10.0
"""Seconds a program must have run for the next wait to be the first again."""


def starts_again(record: Record, exit_code: int) -> bool:
    """Whether it is started again after an end that nobody asked for."""
    if not record.wanted:
        return False
    restart = record.restart
    if restart.policy == "on-failure":
        return exit_code != 0 and (not restart.most or record.restarts < restart.most)
    return restart.policy in ("always", "unless-stopped")


def wait_before(last: float, ran: float) -> float:
    """Seconds; ``last``: what was waited before, 0 for the first time; ``ran``: how long it ran."""
    if last <= 0 or ran >= STEADY:
        return FIRST
    return min(last * 2, MOST)


def starts_with_daemon(record: Record, exit_code: int) -> bool:
    """Whether a daemon that starts and finds it ended starts it again."""
    if record.restart.policy == "always":
        return True
    if record.by_user:
        return False
    return starts_again(record, exit_code)
