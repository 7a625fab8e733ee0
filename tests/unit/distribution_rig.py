"""Nodes that give each other blobs over real gRPC on loopback, and a leader that knows who has which."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from swarmd.image.port import Ingest
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import random_fraction
from swarmd.model.errors import Invalid, NotFound
from swarmd.node import peer
from swarmd.node.distribution.blobs import Blobs
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from tests.unit.agent_managers import PlainChannels


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Files:
    """A content store of plain files, verified when they come in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.held: list[str] = []
        self.given_back: list[str] = []

    def has(self, digest: str) -> bool:
        return self._file(digest).is_file()

    def path(self, digest: str) -> Path:
        if not self.has(digest):
            raise NotFound(f"No such blob: {digest}")
        return self._file(digest)

    def size(self, digest: str) -> int:
        return self.path(digest).stat().st_size

    async def put(self, data: bytes, digest: str = "") -> str:
        self.plant(digest or digest_of(data), data)
        return digest or digest_of(data)

    async def ingest(self, key: str = "", *, algorithm: str = "sha256") -> Ingest:
        return Arriving(self)

    async def give_back(self, digests: Iterable[str]) -> None:
        self.given_back.extend(digests)

    def leave(self, digests: Iterable[str], *, after: float = 0.0) -> None:
        """Nothing is collected here."""

    @contextlib.contextmanager
    def holding(self, digests: Iterable[str]) -> Iterator[None]:
        self.held.extend(digests)
        yield

    def plant(self, digest: str, data: bytes) -> None:
        """Store it whatever it is."""
        self._file(digest).write_bytes(data)

    def _file(self, digest: str) -> Path:
        return self.root / digest.replace(":", "-")


class Arriving:
    """An ingest in memory."""

    key = "one"

    def __init__(self, files: Files) -> None:
        self._files = files
        self._data = bytearray()

    @property
    def offset(self) -> int:
        return len(self._data)

    async def write(self, data: bytes) -> None:
        self._data += data

    async def commit(self, digest: str = "") -> tuple[str, int]:
        found = digest_of(bytes(self._data))
        if digest and found != digest:
            raise Invalid(f"the content is {found}, not {digest} as was said")
        self._files.plant(found, bytes(self._data))
        return found, len(self._data)

    async def cancel(self) -> None:
        self._data.clear()


class Peer(agent_pb2_grpc.NodePeerServicer):
    """One node: its blobs, its port, its way to the others."""

    def __init__(self, name: str, fleet: Fleet) -> None:
        self.name = name
        self.content = Files(fleet.directory / name)
        self.channels = PlainChannels()
        self.given = 0
        self.broken_after: int | None = None
        self.is_old = False
        self._real = peer.NodePeerServer(
            cast("Any", self), cast("Any", None), lambda: "swarm", clock=SystemClock()
        )
        self.blobs = Blobs(
            self.content,
            cast("Any", self.channels),
            leader=lambda: self.channels.to(fleet.address, "leader"),
            managers=list,
            own=lambda: (name, self.address),
            changed=lambda: None,
            clock=SystemClock(),
            fraction=random_fraction,
        )
        self.address = ""
        self._server: Any = None

    async def GetBlob(self, request: agent_pb2.GetBlobRequest, context: Any) -> Any:  # noqa: N802
        if self.is_old:  # all from the offset on, and not a word of sizes
            with self.content.path(request.digest).open("rb") as file:
                file.seek(request.offset)
                while data := file.read(1 << 20):
                    yield agent_pb2.GetBlobResponse(data=data)
            return
        async for message in self._real.GetBlob(request, context):
            self.given += len(message.data)
            yield message
            if self.broken_after is not None and self.given >= self.broken_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the node died")

    async def open(self) -> None:
        self._server = grpc.aio.server()
        agent_pb2_grpc.add_NodePeerServicer_to_server(self, self._server)
        self.address = str(self._server.add_insecure_port("127.0.0.1:0"))
        await self._server.start()

    async def close(self) -> None:
        await self.channels.close()
        await self._server.stop(None)


class Fleet(agent_pb2_grpc.DispatcherServicer):
    """The leader, and the nodes it knows of."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nodes: dict[str, Peer] = {}
        self.questions = 0
        self.image = agent_pb2.LocateImageResponse()
        self.address = ""
        self._server: Any = None

    async def LocateImage(  # noqa: N802
        self, request: agent_pb2.LocateImageRequest, context: Any
    ) -> agent_pb2.LocateImageResponse:
        return self.image

    async def LocateBlobs(  # noqa: N802
        self, request: agent_pb2.LocateBlobsRequest, context: Any
    ) -> agent_pb2.LocateBlobsResponse:
        self.questions += 1
        answer = agent_pb2.LocateBlobsResponse()
        for digest in request.digests:
            holders = [node for node in self.nodes.values() if node.content.has(digest)]
            answer.blobs.add(
                digest=digest,
                holders=[agent_pb2.ImageHolder(node_id=one.name, address=one.address) for one in holders],
            )
        return answer

    async def open(self) -> None:
        self._server = grpc.aio.server()
        agent_pb2_grpc.add_DispatcherServicer_to_server(self, self._server)
        self.address = str(self._server.add_insecure_port("127.0.0.1:0"))
        await self._server.start()

    async def node(self, name: str, *blobs: bytes) -> Peer:
        node = self.nodes[name] = Peer(name, self)
        for data in blobs:
            node.content.plant(digest_of(data), data)
        await node.open()
        return node

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.close()
        await self._server.stop(None)


def without_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who calls is told by the connection; what is given to whom is tested where certificates are."""
    monkeypatch.setattr(
        "swarmd.security.peer.require",
        lambda context, *given, **more: SimpleNamespace(node_id=context.peer()),
    )
