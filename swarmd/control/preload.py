"""Have nodes fetch an image before it is needed: tell those that fit, and pass on how it goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Protocol

import msgspec

from swarmd.model import constraint, image_ref
from swarmd.model.errors import NotFound, Unavailable
from swarmd.model.image_ref import ImageRef
from swarmd.model.objects import Node
from swarmd.model.states import NodeState
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.store import Store


class News(msgspec.Struct, frozen=True):
    """How far a node is.  ``state`` as in control.proto; bytes, ``total`` 0: not known."""

    node_id: str
    hostname: str = ""
    state: str = "told"
    message: str = ""
    current: int = 0
    total: int = 0


class Preloads(Protocol):
    """Tells nodes, and hears of them, while this manager leads."""

    def begin(self, ref: str, nodes: Sequence[str]) -> AsyncIterator[tuple[str, agent_pb2.PreloadStatus]]:
        """Tell these nodes now; (node, what it says), until each has said how it ended."""
        ...


class Preloading:
    """The use case; runs on the leader."""

    def __init__(
        self,
        store: Store,
        *,
        preloads: Callable[[], Preloads | None],
        pin: Callable[[ImageRef], str],
    ) -> None:
        self._store = store
        self._preloads = preloads
        self._pin = pin

    async def run(self, ref: str, constraints: tuple[str, ...], *, detach: bool) -> AsyncGenerator[News]:
        """News of every node that fits, the ends of all of them last.

        Raises Invalid for a constraint or name that makes no sense, NotFound when no node fits.
        """
        parsed = image_ref.parse(ref)
        conditions = [constraint.parse(text) for text in constraints]
        preloads = self._preloads()
        if preloads is None:
            raise Unavailable("this manager does not lead the swarm at the moment")
        nodes = {node.id: node for node in self._store.all(Node) if all(c.matches(node) for c in conditions)}
        if not nodes:
            raise NotFound(f"no node meets {' and '.join(constraints)}")
        digest = parsed.digest or self._pin(parsed)
        wanted = parsed.pinned(digest).familiar() if digest else parsed.familiar()
        names = {node_id: node.description.hostname or node_id for node_id, node in nodes.items()}
        there = sorted(node_id for node_id, node in nodes.items() if node.status.state is NodeState.READY)
        for node_id in sorted(nodes.keys() - set(there), key=lambda one: names[one]):
            state = nodes[node_id].status.state.value
            yield News(node_id, names[node_id], "away", f"the node is {state}")
        news = preloads.begin(wanted, there)
        if detach:
            for node_id in sorted(there, key=lambda one: names[one]):
                yield News(node_id, names[node_id])
            return
        async for node_id, one in news:
            yield News(node_id, names[node_id], one.state, one.message, one.current, one.total)
