"""Decide when a row that ends by itself is of no use any more: join tokens, and the ban of removed nodes."""

from __future__ import annotations

from swarmd.manager.plan import Plan, sooner
from swarmd.model.objects import JoinToken, RemovedNode
from swarmd.store.core.transaction import Delete

KEPT = 86400.0
"""Seconds for which a token outlives its end: so long joiners are told that it has ended."""

Ending = JoinToken | RemovedNode


def plan_ending(row: Ending, *, now: float) -> Plan:
    """Delete the row, or wait for its time."""
    at = _useless_at(row)
    if at is None or at > now:
        return Plan(wake_at=at)
    return Plan(steps=((Delete(type(row), row.id, row.version),),))


def _useless_at(row: Ending) -> float | None:
    """Seconds since 1970; None = it stays."""
    if isinstance(row, RemovedNode):
        return row.until
    expired = row.expires_at + KEPT if row.expires_at else None
    return sooner(expired, row.updated_at + KEPT if row.is_used_up else None)
