"""Decide which nodes get an image from outside the swarm; the others have it from them.  Pure.

Of a thousand nodes that are given tasks of a new image, two ask the outside registry.
"""

from __future__ import annotations

PULLERS = 2
"""Nodes that get one image from outside at once."""

PULL_LIMIT = 30.0
"""Seconds after which another may try: one that has it by then has told so."""


class Pullers:
    """Memory of who was sent, by image."""

    def __init__(self) -> None:
        self._sent: dict[str, dict[str, float]] = {}
        self._failed: dict[str, float] = {}

    def admits(self, image: str, node_id: str, now: float) -> bool:
        """Whether that node is to get it, as far as is known at ``now`` (monotonic seconds)."""
        for name, nodes in list(self._sent.items()):
            fresh = {node: since for node, since in nodes.items() if now - since < PULL_LIMIT}
            self._sent[name] = fresh
            if not fresh:
                del self._sent[name]
        self._failed = {name: at for name, at in self._failed.items() if now - at < PULL_LIMIT}
        if image in self._failed:
            return True
        sent = self._sent.setdefault(image, {})
        if node_id not in sent and len(sent) >= PULLERS:
            return False
        sent.setdefault(node_id, now)
        return True

    def failed(self, image: str, now: float) -> None:
        """It could not be had: for a while nobody waits for anybody."""
        self._failed[image] = now
