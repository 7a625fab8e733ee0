"""One range of a blob from one node, over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec

from swarmd.model.errors import SwarmError, Unavailable
from swarmd.node.distribution.core.choosing import Provider
from swarmd.node.distribution.core.ranges import PIECE, Range
from swarmd.rpc.channels import Channels
from swarmd.rpc.errors import calling
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc

SILENCE = 20.0
"""Seconds in which a node must send the next piece of a range."""


class Busy(SwarmError):
    """The node serves enough others; ``others`` were given the blob lately."""

    def __init__(self, others: list[Provider]) -> None:
        super().__init__("it serves enough other nodes")
        self.others = others


class Answer(msgspec.Struct, frozen=True):
    """What came of a range: its bytes, and the size of the whole blob."""

    data: bytes
    size: int


async def fetch(channels: Channels, provider: Provider, digest: str, part: Range | None) -> Answer:
    """A range, or with None the beginning of a blob of unknown size.

    Raises Busy, NotFound, or Unavailable when the stream breaks, ends early or is silent for too long.
    """
    offset, length = (0, PIECE) if part is None else (part.offset, part.length)
    request = agent_pb2.GetBlobRequest(digest=digest, offset=offset, length=length)
    with channels.using(provider.address, provider.node_id) as channel:
        stream = agent_pb2_grpc.NodePeerStub(channel).GetBlob(request)
        try:
            return await _read(stream, offset, length)
        finally:
            stream.cancel()


async def tell_done(channels: Channels, provider: Provider, digest: str, address: str) -> None:
    """Say that nothing more is wanted; with ``address``, where others can have the blob from now on."""
    request = agent_pb2.GetBlobRequest(digest=digest, done=True, address=address)
    using = channels.using(provider.address, provider.node_id)
    with contextlib.suppress(SwarmError), calling(), using as channel:
        await agent_pb2_grpc.NodePeerStub(channel).GetBlob(request, timeout=5).read()


def provider_of(holder: agent_pb2.ImageHolder) -> Provider:
    """A node as a message names it."""
    return Provider(holder.node_id, holder.address, holder.manager)


async def _read(stream: Any, offset: int, length: int) -> Answer:
    first = await _next(stream)
    if first is None:
        raise Unavailable("the node sent nothing")
    if first.busy:
        raise Busy([provider_of(other) for other in first.others])
    if not first.size and first.data:
        return await _read_to_the_end(stream, first.data, length, begins=not offset)
    wanted = min(length, first.size - offset)
    pieces, got = [first.data], len(first.data)
    while got < wanted:
        message = await _next(stream)
        if message is None:
            raise Unavailable(f"the stream ended early, {wanted - got} bytes before the end of the range")
        pieces.append(message.data)
        got += len(message.data)
    if got > wanted:
        raise Unavailable("the node sent more than was asked for")
    return Answer(b"".join(pieces), first.size)


async def _read_to_the_end(stream: Any, data: bytes, length: int, *, begins: bool) -> Answer:
    """From a node of an earlier version, which gives all from the offset on and says not how much."""
    kept, size = bytearray(data[:length]), len(data)
    while (size < length or begins) and (message := await _next(stream)) is not None:
        kept += message.data[: length - len(kept)]
        size += len(message.data)
    return Answer(bytes(kept), size if begins else 0)


async def _next(stream: Any) -> agent_pb2.GetBlobResponse | None:
    try:
        async with asyncio.timeout(SILENCE):
            with calling():
                message = await stream.read()
    except TimeoutError:
        raise Unavailable(f"the node sent nothing for {SILENCE:.0f} seconds") from None
    return message if isinstance(message, agent_pb2.GetBlobResponse) else None
