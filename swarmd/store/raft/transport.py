"""The way between members, as the pump sees it.  Frames to one peer arrive in order, once, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from swarmd.rpc.v1 import peer_pb2 as pb


class Receiver(Protocol):
    """What a transport tells the member it works for, on the event loop."""

    def on_frame(self, peer: str, frame: pb.PeerFrame) -> None:
        """``peer`` said ``frame``; the transport vouches for who it is."""
        ...

    def on_link(self, peer: str, up: bool) -> None:
        """Frames to ``peer`` can be sent from now on, or are lost."""
        ...

    def serve_base(self, peer: str, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]:
        """The chunks of the newest base, or nothing when it is older than asked for."""
        ...


class Transport(Protocol):
    """Carries frames and base files between managers."""

    async def start(self, receiver: Receiver) -> None: ...

    async def stop(self) -> None: ...

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """Keep a way open to exactly these: node id to ``ip:port``."""
        ...

    def send(self, peer: str, frame: pb.PeerFrame) -> None:
        """Send, or lose the frame when there is no way or too much waits for it.  Never blocks."""
        ...

    def fetch_base(self, peer: str, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]:
        """Ask ``peer`` for its base.  Raises Unavailable or OSError when the way breaks."""
        ...
