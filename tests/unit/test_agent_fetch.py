"""An image comes from another node, over real gRPC on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from swarmd.model.errors import NotFound, Unavailable
from swarmd.node import peer
from swarmd.node.agent.fetch import ImageFetcher
from swarmd.rpc import errors
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from tests.unit.agent_managers import Manager, PlainChannels


class Images:
    """Stands for an image store: what :class:`ImageFetcher` and the peer server use of one."""

    def __init__(self, blob: Path | None = None) -> None:
        self._blob = blob
        self.received: list[tuple[bytes, bytes]] = []

    def resolve(self, ref: str) -> None:
        raise NotFound(f"No such image: {ref}")

    def manifest(self, digest: str) -> bytes:
        return b"manifest of " + digest.encode()

    def blob_path(self, digest: str) -> Path:
        if self._blob is None:
            raise NotFound(f"No such blob: {digest}")
        return self._blob

    async def receive(
        self, ref: str, digest: str, manifest: Callable[[], Any], blob: Callable[[str, int], Any]
    ) -> None:
        data = await manifest()
        self.received.append((data, b"".join([chunk async for chunk in blob("sha256:b", 2)])))


class Leader(Manager):
    """Says who holds an image."""

    def __init__(self) -> None:
        super().__init__("leader")
        self.answer = agent_pb2.LocateImageResponse(digest="sha256:m")

    async def LocateImage(  # noqa: N802
        self, request: agent_pb2.LocateImageRequest, context: Any
    ) -> agent_pb2.LocateImageResponse:
        if self.refusal is not None:
            await errors.abort(context, self.refusal)
        return self.answer


class Fetching:
    """A fetcher, its leader, and nodes to fetch from, over loopback."""

    def __init__(self) -> None:
        self.leader = Leader()
        self.images = Images()
        self.channels = PlainChannels()
        self.said: list[str] = []
        self._servers: list[Any] = []
        self._leader_port = ""

    async def serve(self, add: Callable[[Any, Any], object], servicer: object) -> str:
        server = grpc.aio.server()
        add(servicer, server)
        port = str(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        self._servers.append(server)
        return port

    async def open(self) -> ImageFetcher:
        self._leader_port = await self.serve(agent_pb2_grpc.add_DispatcherServicer_to_server, self.leader)
        return ImageFetcher(
            cast("Any", self.images),
            cast("Any", self.channels),
            lambda: self.channels.to(self._leader_port, "leader"),
            self.said.append,
        )

    async def holder(self, blob: Path | None) -> None:
        server = peer.NodePeerServer(cast("Any", Images(blob)), cast("Any", None), lambda: "swarm")
        port = await self.serve(agent_pb2_grpc.add_NodePeerServicer_to_server, server)
        self.leader.answer.holders.add(node_id="holder", address=port)

    async def close(self) -> None:
        await self.channels.close()
        for server in self._servers:
            await server.stop(None)


@pytest.fixture
async def fetching(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fetching]:
    # Who calls is in a certificate; what is given to whom is tested where certificates are.
    monkeypatch.setattr("swarmd.security.peer.require", lambda *given, **more: None)
    fetching = Fetching()
    yield fetching
    await fetching.close()


async def test_an_image_comes_from_a_node_that_has_it(fetching: Fetching, tmp_path: Path) -> None:
    fetcher = await fetching.open()
    (tmp_path / "blob").write_bytes(b"x" * (peer.CHUNK + 5))
    await fetching.holder(tmp_path / "blob")
    await fetcher.ensure("demo:1")
    assert fetching.images.received == [(b"manifest of sha256:m", b"x" * (peer.CHUNK + 3))]


async def test_a_holder_that_lost_the_image_is_followed_by_the_next(
    fetching: Fetching, tmp_path: Path
) -> None:
    fetcher = await fetching.open()
    (tmp_path / "blob").write_bytes(b"xxyy")
    await fetching.holder(None)
    await fetching.holder(tmp_path / "swept")
    await fetching.holder(tmp_path / "blob")
    await fetcher.ensure("demo:1")
    assert [blob for _, blob in fetching.images.received] == [b"yy"]
    assert len(fetching.said) == 3


async def test_an_image_nobody_holds_is_not_found_by_its_name(fetching: Fetching) -> None:
    fetcher = await fetching.open()
    with pytest.raises(NotFound, match="No such image: demo:1"):
        await fetcher.ensure("demo:1")


async def test_when_no_holder_can_give_it_the_reasons_are_told(fetching: Fetching, tmp_path: Path) -> None:
    fetcher = await fetching.open()
    await fetching.holder(None)
    await fetching.holder(tmp_path / "swept")
    with pytest.raises(Unavailable, match=r"could not be fetched: .*No such blob.*swept cannot be read"):
        await fetcher.ensure("demo:1")


async def test_a_manager_that_does_not_lead_makes_the_task_wait(fetching: Fetching) -> None:
    fetcher = await fetching.open()
    fetching.leader.refusal = Unavailable("this manager does not lead the swarm at the moment")
    with pytest.raises(Unavailable, match="does not lead"):
        await fetcher.ensure("demo:1")


async def test_a_channel_closed_under_a_call_is_unavailable_and_no_cancellation(fetching: Fetching) -> None:
    fetcher = await fetching.open()
    original = fetching.leader.LocateImage

    async def closing(request: agent_pb2.LocateImageRequest, context: Any) -> agent_pb2.LocateImageResponse:
        await fetching.channels.close()
        return await original(request, context)

    fetching.leader.LocateImage = closing  # type: ignore[method-assign]
    fetcher = await fetching.open()
    with pytest.raises(Unavailable):
        await fetcher.ensure("demo:1")
