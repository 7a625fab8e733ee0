"""Keeps what was heard of each node in this term, and writes what that means into the nodes' rows.

sessions, heartbeats, goodbyes ──► heard ─┐
gossip, time                   ───────────┴─► core.liveness ──► node rows, where the verdict changed
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec
import structlog

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import until
from swarmd.manager.dispatcher.core import liveness
from swarmd.manager.dispatcher.core.liveness import Evidence, Patience
from swarmd.model.errors import OutOfSequence
from swarmd.model.objects import Cluster, Node
from swarmd.model.replace import replace
from swarmd.model.states import NodeState
from swarmd.store.core.transaction import Put
from swarmd.store.store import Store

LIVENESS_POLL = 0.5
"""Seconds between looks at gossip, which has no way to wake the leader."""

BATCH = 200
"""Verdicts in one transaction."""


class _Heard(msgspec.Struct):
    """When a node was last heard in this term (monotonic seconds)."""

    connected: bool = False
    last_seen: float = 0.0
    lost_at: float = 0.0
    left: bool = False


class Judging:
    """Liveness of all nodes, for one term."""

    def __init__(self, store: Store, clock: Clock, gossip: Callable[[], Mapping[str, str]]) -> None:
        self._store = store
        self._clock = clock
        self._gossip = gossip
        self._heard: dict[str, _Heard] = {}
        self._term_start = clock.monotonic()
        self._patience: Patience | None = None
        self._now = asyncio.Event()
        self._log = structlog.get_logger()

    def opened(self, node_id: str) -> None:
        """A session began."""
        now = self._clock.monotonic()
        self._heard[node_id] = _Heard(connected=True, last_seen=now, lost_at=now)
        self._now.set()

    def closed(self, node_id: str) -> None:
        """The node's only session ended."""
        heard = self._heard.get(node_id)
        if heard is not None:
            heard.connected, heard.lost_at = False, self._clock.monotonic()
            self._now.set()

    def seen(self, node_id: str) -> None:
        """The node said something."""
        heard = self._heard.get(node_id)
        if heard is not None:
            heard.last_seen = self._clock.monotonic()

    def left(self, node_id: str) -> None:
        """The node said that it leaves: no need to wait for its silence."""
        self._heard.setdefault(node_id, _Heard()).left = True
        self._now.set()

    def removed(self, node_id: str) -> None:
        """The node's row is gone."""
        self._heard.pop(node_id, None)

    def look(self) -> None:
        """Rows of nodes changed: judge them now."""
        self._now.set()

    async def run(self) -> None:
        """Until cancelled at the end of the term."""
        while True:
            self._now.clear()
            judged = self._changed()
            try:
                for start in range(0, len(judged), BATCH):
                    await self._write(judged[start : start + BATCH])
            except OutOfSequence:
                continue  # somebody else changed one of them meanwhile: judge what is true now
            await until(self._clock.sleep(LIVENESS_POLL), self._now)

    async def _write(self, judged: list[Node]) -> None:
        before = {node.id: self._store.get(Node, node.id) for node in judged}
        await self._store.commit([Put(node) for node in judged])
        for node in judged:
            was, status = before[node.id], node.status
            if status.state is NodeState.DOWN and was is not None and was.status.state is not NodeState.DOWN:
                name = node.description.hostname
                self._log.info("node_down", node=node.id, hostname=name, reason=status.message)

    def _changed(self) -> list[Node]:
        """Rows whose verdict is another than before."""
        now, gossip = self._clock.monotonic(), self._gossip()
        nodes = self._store.all(Node)
        setting = (self._store.cluster() or Cluster(id="")).spec.heartbeat
        self._patience = liveness.patience(self._patience, setting, now)
        configured = self._patience.seconds
        period = liveness.heartbeat_period(len(nodes), configured)
        changed: list[Node] = []
        for node in nodes:
            verdict = liveness.judge(
                self._evidence(node, gossip.get(node.id, "")), now=now, period=period, configured=configured
            )
            if verdict.state is NodeState.UNKNOWN and node.status.state is NodeState.DOWN:
                continue  # it was down before this term: nothing says otherwise
            if (verdict.state, verdict.message) != (node.status.state, node.status.message):
                status = replace(node.status, state=verdict.state, message=verdict.message)
                changed.append(replace(node, status=status))
        return changed

    def _evidence(self, node: Node, gossip: str) -> Evidence:
        heard = self._heard.get(node.id)
        if heard is None:
            heard = _Heard(last_seen=self._term_start, lost_at=self._term_start)
        return Evidence(
            connected=heard.connected,
            last_seen=heard.last_seen,
            lost_at=heard.lost_at or self._term_start,
            term_start=self._term_start,
            gossip=gossip,
            left=heard.left,
        )
