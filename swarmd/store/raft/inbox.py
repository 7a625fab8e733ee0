"""Frames that arrived: those to be heard in the next turn, and those of an epoch that has not begun here.

Both are bounded: what is too much is lost, as on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from swarmd.rpc.v1 import peer_pb2 as pb

_MOST = 2048
_MOST_EARLY = 300


class Inbox:
    """In the order of arrival."""

    def __init__(self) -> None:
        self._arrived: deque[tuple[str, pb.PeerFrame]] = deque(maxlen=_MOST)
        self._early: list[tuple[int, str, pb.PeerFrame]] = []

    def put(self, peer: str, frame: pb.PeerFrame) -> None:
        """``frame`` of ``peer`` waits for the next turn."""
        self._arrived.append((peer, frame))

    def take(self) -> Iterator[tuple[str, pb.PeerFrame]]:
        """What waits, taken out one by one."""
        while self._arrived:
            yield self._arrived.popleft()

    def keep(self, epoch: int, peer: str, frame: pb.PeerFrame) -> None:
        """``frame`` is for ``epoch``, which has not begun here."""
        if len(self._early) < _MOST_EARLY:
            self._early.append((epoch, peer, frame))

    def began(self, epoch: int) -> None:
        """``epoch`` has begun: what was said early is heard now."""
        early, self._early = self._early, []
        self._arrived.extend((peer, frame) for number, peer, frame in early if number >= epoch)
