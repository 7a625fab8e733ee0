"""Images that nodes were told to fetch ahead, and what they say of it, for one term."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from swarmd.rpc.v1 import agent_pb2

ENDS = ("done", "failed")
LOST = "its session with the leader ended; it may fetch on, but nobody hears of it"
ABSENT = "it has no session with the leader"

News = tuple[str, agent_pb2.PreloadStatus]
"""Node id, and what it says."""


class _Round:
    """One request: only the newest word of each node is kept."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.waiting = set(nodes)
        self.fresh: dict[str, agent_pb2.PreloadStatus] = {}
        self.changed = asyncio.Event()

    def note(self, node_id: str, status: agent_pb2.PreloadStatus) -> None:
        if node_id in self.waiting:
            self.fresh[node_id] = status
            if status.state in ENDS:
                self.waiting.discard(node_id)
            self.changed.set()


class Preloads:
    """``tell(node, order)``: False when the node is not connected."""

    def __init__(self, tell: Callable[[str, agent_pb2.Preload], bool]) -> None:
        self._tell = tell
        self._rounds: dict[str, _Round] = {}
        self._count = 0

    def begin(self, ref: str, nodes: Sequence[str]) -> AsyncIterator[News]:
        """Tell these nodes now; what each says, until each has said how it ended."""
        self._count += 1
        key = str(self._count)
        found = self._rounds[key] = _Round(nodes)
        for node_id in nodes:
            if not self._tell(node_id, agent_pb2.Preload(id=key, ref=ref)):
                found.note(node_id, agent_pb2.PreloadStatus(id=key, state="failed", message=ABSENT))
        self._forget_ended()
        return _news(found)

    def take(self, node_id: str, status: agent_pb2.PreloadStatus) -> None:
        """What a node says."""
        found = self._rounds.get(status.id)
        if found is not None:
            found.note(node_id, status)
            self._forget_ended()

    def gone(self, node_id: str) -> None:
        """Its session ended."""
        for key, found in self._rounds.items():
            found.note(node_id, agent_pb2.PreloadStatus(id=key, state="failed", message=LOST))
        self._forget_ended()

    def _forget_ended(self) -> None:
        self._rounds = {key: one for key, one in self._rounds.items() if one.waiting}


async def _news(found: _Round) -> AsyncIterator[News]:
    while True:
        found.changed.clear()
        fresh, found.fresh = found.fresh, {}
        for item in fresh.items():
            yield item
        if not found.waiting and not found.fresh:
            return
        if not found.fresh:
            await found.changed.wait()
