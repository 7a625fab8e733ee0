"""The shell around ``core.members``: moves nodes in and out of the Raft group, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog

from swarmd.kit.clock import Clock
from swarmd.manager.roles.core.members import plan
from swarmd.model.errors import OutOfSequence, Refused, Unavailable
from swarmd.model.objects import Node, Row
from swarmd.model.replace import replace
from swarmd.model.states import Role
from swarmd.store.core.levels import next_level
from swarmd.store.core.transaction import Put
from swarmd.store.store import Store

POLL = 0.5
"""Seconds between looks: sessions and learners' progress send no events."""


class Group(Protocol):
    """The part of the Raft port that changes the group."""

    async def change_members(self, members: Mapping[str, str], *, timeout: float = 20.0) -> None: ...


class RoleLoop:
    """Leader only."""

    def __init__(
        self,
        store: Store,
        group: Group,
        clock: Clock,
        *,
        members: Callable[[], Mapping[str, str]],
        connected: Callable[[], Collection[str]],
    ) -> None:
        self._store = store
        self._group = group
        self._clock = clock
        self._members = members
        self._connected = connected
        self._log = structlog.get_logger()
        self._said = ""

    async def run(self) -> None:
        """Until cancelled at the end of the term."""
        while True:
            await self._step()
            await self._clock.sleep(POLL)

    async def _step(self) -> None:
        nodes, members, cluster = self._store.all(Node), self._members(), self._store.cluster()
        level = cluster.feature_level if cluster else 0
        todo = plan(nodes, members, self._connected(), level=level)
        rows: list[Row] = list(todo.rows)
        managers = [
            node for node in nodes if node.id in members or Role.MANAGER in (node.role, node.spec.role)
        ]
        if cluster and (risen := next_level(level, managers)) > level:
            rows.append(replace(cluster, feature_level=risen))
            self._log.info("feature_level_rises", before=level, level=risen)
        try:
            await self._store.commit([Put(row) for row in rows])
        except OutOfSequence:
            return
        if todo.members is None:
            return
        try:
            await self._group.change_members(todo.members)
            self._log.info("raft_members_changed", members=sorted(todo.members))
            self._said = ""
        except (TimeoutError, Refused, Unavailable) as error:
            # Said once per reason: a learner that is not current yet is refused twice a second.
            if str(error) != self._said:
                self._log.info("raft_members_not_changed", reason=str(error))
            self._said = str(error)
