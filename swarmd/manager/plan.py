"""What a control loop's core answers: changes to commit, and when to ask again.

A step is what must not be torn apart (a task told to end and its replacement): its changes travel in one
transaction.  Several steps may share one, in their order.
"""

from __future__ import annotations

import msgspec

from swarmd.store.core.transaction import Change

Step = tuple[Change, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``wake_at``: seconds since 1970 when the same question has another answer; None = only on news."""

    steps: tuple[Step, ...] = ()
    wake_at: float | None = None


class Agenda(msgspec.Struct, frozen=True, kw_only=True):
    """The plans of several keys: all their steps, and each key's time to be asked again."""

    steps: tuple[Step, ...] = ()
    wakes: dict[str, float] = {}


def agenda(plans: dict[str, Plan]) -> Agenda:
    """Plans by key, as one agenda."""
    return Agenda(
        steps=tuple(step for plan in plans.values() for step in plan.steps),
        wakes={key: plan.wake_at for key, plan in plans.items() if plan.wake_at is not None},
    )


def sooner(one: float | None, other: float | None) -> float | None:
    """The earlier of two times; None is never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
