"""What a node gives to the others: image blobs, to a few of them at a time, and what its tasks printed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, SwarmError, Unavailable
from swarmd.node.distribution.core.choosing import Provider
from swarmd.node.distribution.core.slots import Slots
from swarmd.node.distribution.wire import provider_of
from swarmd.rpc import errors
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.security import peer

CHUNK = 1 << 20

# gRPC method names are the protocol's.
# ruff: noqa: N802


SMALL = 256 << 10
"""Bytes of a blob that anybody gets at once: asking for a place would cost more."""


def _opened(path: Path, offset: int) -> tuple[BinaryIO, int]:
    """The file at ``offset``, and its size."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise Unavailable(f"blob {path.name} cannot be read: {error}") from error
    size = file.seek(0, os.SEEK_END)
    if not 0 <= offset <= size:
        file.close()
        raise Invalid(f"offset {offset} lies outside of blob {path.name}, which has {size} bytes")
    file.seek(offset)
    return file, size


class LogLine(msgspec.Struct, frozen=True):
    """One line of a task's output."""

    at: float
    stderr: bool
    data: bytes


class TaskLogs(Protocol):
    """Reads a task's log on this node; raises NotFound when there is none."""

    def __call__(
        self, task_id: str, *, follow: bool, tail: int, since: float
    ) -> AsyncGenerator[LogLine, None]: ...


class Keep(Protocol):
    """Has blobs here; raises NotFound, Unavailable."""

    async def __call__(self, digests: Sequence[str], *, first: Sequence[Provider]) -> None: ...


class NodePeerServer(agent_pb2_grpc.NodePeerServicer):
    """For nodes of the same swarm; logs, and what is to be kept, only for its managers."""

    def __init__(
        self,
        images: ImageStore,
        logs: TaskLogs,
        cluster_id: Callable[[], str],
        *,
        clock: Clock,
        keep: Keep | None = None,
    ) -> None:
        self._images = images
        self._logs = logs
        self._cluster_id = cluster_id
        self._clock = clock
        self._keep = keep
        self._slots = Slots()

    async def GetManifest(
        self, request: agent_pb2.GetManifestRequest, context: Any
    ) -> agent_pb2.GetManifestResponse:
        try:
            peer.require(context, self._cluster_id())
            return agent_pb2.GetManifestResponse(data=self._images.manifest(request.digest))
        except SwarmError as error:
            await errors.abort(context, error)

    async def GetBlob(
        self, request: agent_pb2.GetBlobRequest, context: Any
    ) -> AsyncIterator[agent_pb2.GetBlobResponse]:
        try:
            client = peer.require(context, self._cluster_id()).node_id
            if request.done:
                self._slots.done(client, request.digest, request.address)
                return
            file, size = _opened(self._images.content.path(request.digest), request.offset)
        except SwarmError as error:
            await errors.abort(context, error)
        with file:
            if size <= SMALL:
                yield agent_pb2.GetBlobResponse(data=await asyncio.to_thread(file.read, SMALL), size=size)
            elif not self._slots.begin(client, request.digest, self._clock.monotonic()):
                yield agent_pb2.GetBlobResponse(size=size, busy=True, others=self._others(request.digest))
            else:
                try:
                    async for piece in _pieces(file, size, request.length or size):
                        yield piece
                finally:
                    self._slots.end(client, request.digest, self._clock.monotonic())

    async def KeepBlobs(
        self, request: agent_pb2.KeepBlobsRequest, context: Any
    ) -> agent_pb2.KeepBlobsResponse:
        try:
            peer.require(context, self._cluster_id(), manager=True)
            if self._keep is None:
                raise Unavailable("this node is no manager")
            holders = [provider_of(request.holder)] if request.holder.node_id else []
            await self._keep(request.digests, first=holders)
        except SwarmError as error:
            await errors.abort(context, error)
        return agent_pb2.KeepBlobsResponse()

    def _others(self, digest: str) -> list[agent_pb2.ImageHolder]:
        return [
            agent_pb2.ImageHolder(node_id=node_id, address=address)
            for node_id, address in self._slots.others(digest)
        ]

    async def TaskLogs(
        self, request: agent_pb2.TaskLogsRequest, context: Any
    ) -> AsyncIterator[agent_pb2.TaskLogsResponse]:
        try:
            peer.require(context, self._cluster_id(), manager=True)
            lines = self._logs(request.task_id, follow=request.follow, tail=request.tail, since=request.since)
            async with contextlib.aclosing(lines):
                async for line in lines:
                    yield agent_pb2.TaskLogsResponse(at=line.at, stderr=line.stderr, line=line.data)
        except SwarmError as error:
            await errors.abort(context, error)


async def _pieces(file: BinaryIO, size: int, length: int) -> AsyncIterator[agent_pb2.GetBlobResponse]:
    """``length`` bytes of the file; the first piece says its whole size, also of none."""
    left, first = length, True
    while left > 0 or first:
        data = await asyncio.to_thread(file.read, min(CHUNK, left))
        if not data and not first:
            return
        yield agent_pb2.GetBlobResponse(data=data, size=size if first else 0)
        left -= len(data)
        first = False
