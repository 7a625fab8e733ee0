"""The shell around ``core.steps``: takes the swarm from one root certificate to the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import structlog

from swarmd.kit.clock import Clock
from swarmd.manager.rotation.core.steps import plan
from swarmd.model.errors import OutOfSequence
from swarmd.model.objects import Cluster, Node
from swarmd.security import issuing
from swarmd.store.core.transaction import Put
from swarmd.store.store import Store

POLL = 0.5
"""Seconds between looks while a root changes: a batch may be over by time alone."""

IDLE = 2.0
"""Seconds between looks otherwise."""


class RotationLoop:
    """Leader only.  ``wake``: these nodes have to be told something else than before."""

    def __init__(self, store: Store, clock: Clock, wake: Callable[[Collection[str]], None]) -> None:
        self._store = store
        self._clock = clock
        self._wake = wake
        self._log = structlog.get_logger()
        self._asked: Mapping[str, float] = {}
        self._target = ""

    def wanted_issuer(self, node_id: str) -> str:
        """The key that the node's certificate is to be signed by, "" when any will do for now."""
        return self._target if node_id in self._asked else ""

    async def run(self) -> None:
        """Until cancelled at the end of the term."""
        while True:
            await self.step()
            cluster = self._store.cluster()
            changing = cluster is not None and cluster.rotation is not None
            await self._clock.sleep(POLL if changing else IDLE)

    async def step(self) -> None:
        """One look, and what follows from it."""
        cluster = self._store.cluster()
        if cluster is None:
            return
        todo = plan(cluster, self._store.all(Node), self._asked, self._clock.monotonic())
        target = issuing.target(cluster)
        before, self._asked = self._asked.keys(), todo.asked
        self._target = target.key_id if target is not None else ""
        self._wake(before ^ self._asked.keys())
        if todo.cluster is not None:
            await self._go_on(todo.cluster)

    async def _go_on(self, cluster: Cluster) -> None:
        try:
            await self._store.commit([Put(cluster)])
        except OutOfSequence:
            return  # somebody changed the row meanwhile: look again
        phase = cluster.rotation.phase.value if cluster.rotation is not None else "done"
        self._log.info("root_rotation", phase=phase)
