"""Tell the core of endings which rows to look at."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.manager.core.endings import Ending, plan_ending
from swarmd.manager.plan import Agenda, agenda
from swarmd.model.objects import JoinToken, RemovedNode
from swarmd.store.core.tables import Event
from swarmd.store.store import Store


class EndingPlanner:
    """Deletes rows whose time is over.  A key is a row's id: one of a token or of a removed node."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def reset(self) -> Iterable[str]:
        return [row.id for kind in (JoinToken, RemovedNode) for row in self._store.all(kind)]

    def touched(self, event: Event) -> Iterable[str]:
        return (event.new.id,) if isinstance(event.new, Ending) else ()

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        rows = {key: self._store.get(JoinToken, key) or self._store.get(RemovedNode, key) for key in keys}
        return agenda({key: plan_ending(row, now=now) for key, row in rows.items() if row is not None})
