"""An image that this node lacks comes from a node that has it, verified by digest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc

from swarmd.image.store import ImageStore
from swarmd.model import image_ref
from swarmd.model.errors import NotFound, SwarmError, Unavailable
from swarmd.rpc.channels import Channels
from swarmd.rpc.errors import calling
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc

SILENCE = 20.0
"""Seconds in which a holder must send the next piece of a blob."""


class LeaderChannel(Protocol):
    """A channel to the leader; raises Unavailable while there is none."""

    def __call__(self) -> grpc.aio.Channel: ...


class ImageFetcher:
    """Finds holders through the leader and copies from one of them."""

    def __init__(
        self, store: ImageStore, channels: Channels, leader: LeaderChannel, said: Callable[[str], None]
    ) -> None:
        self._store = store
        self._channels = channels
        self._leader = leader
        self._said = said

    async def ensure(self, ref: str) -> None:
        """Have the image here.

        Raises NotFound ("No such image: X") when no node has it, Unavailable when nobody can be asked now.
        """
        try:
            self._store.resolve(ref)
        except NotFound:
            await self._fetch(ref)

    async def _fetch(self, ref: str) -> None:
        located = await self._locate(ref)
        if not located.holders:
            raise NotFound(f"No such image: {image_ref.parse(ref).familiar()}")
        failures: list[str] = []
        for holder in located.holders:
            self._said(f"fetching image from {holder.address}")
            try:
                await self._copy(ref, located.digest, holder)
            except SwarmError as error:
                failures.append(f"{holder.address}: {error}")
                continue
            return
        raise Unavailable(f"image {ref} could not be fetched: {'; '.join(failures)}")

    async def _locate(self, ref: str) -> agent_pb2.LocateImageResponse:
        stub = agent_pb2_grpc.DispatcherStub(self._leader())
        with calling():
            answer: agent_pb2.LocateImageResponse = await stub.LocateImage(
                agent_pb2.LocateImageRequest(ref=ref), timeout=5
            )
        return answer

    async def _copy(self, ref: str, digest: str, holder: agent_pb2.ImageHolder) -> None:
        with self._channels.using(holder.address, holder.node_id) as channel:
            stub = agent_pb2_grpc.NodePeerStub(channel)

            async def manifest() -> bytes:
                with calling():
                    answer = await stub.GetManifest(agent_pb2.GetManifestRequest(digest=digest), timeout=10)
                return bytes(answer.data)

            def blob(blob_digest: str, offset: int) -> AsyncIterator[bytes]:
                return _pieces(stub.GetBlob(agent_pb2.GetBlobRequest(digest=blob_digest, offset=offset)))

            await self._store.receive(ref, digest, manifest, blob)


async def _pieces(stream: Any) -> AsyncIterator[bytes]:
    """A blob as it comes; raises Unavailable for a holder that breaks off or is silent for too long."""
    try:
        while True:
            with calling():
                piece = await _next(stream)
            if piece is None:
                return
            yield piece
    finally:
        stream.cancel()


async def _next(stream: Any) -> bytes | None:
    try:
        async with asyncio.timeout(SILENCE):
            message = await stream.read()
    except TimeoutError:
        raise Unavailable(f"the node sent nothing for {SILENCE:.0f} seconds") from None
    return message.data if isinstance(message, agent_pb2.GetBlobResponse) else None
