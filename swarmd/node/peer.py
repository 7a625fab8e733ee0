"""What a node gives to the others: image blobs it holds, and what its tasks printed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from swarmd.image.store import ImageStore
from swarmd.model.errors import Invalid, SwarmError, Unavailable
from swarmd.rpc import errors
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.security import peer

CHUNK = 1 << 20

# gRPC method names are the protocol's.
# ruff: noqa: N802


def _opened(path: Path, offset: int) -> BinaryIO:
    try:
        file = path.open("rb")
    except OSError as error:
        raise Unavailable(f"blob {path.name} cannot be read: {error}") from error
    size = file.seek(0, os.SEEK_END)
    if not 0 <= offset <= size:
        file.close()
        raise Invalid(f"offset {offset} lies outside of blob {path.name}, which has {size} bytes")
    file.seek(offset)
    return file


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


class NodePeerServer(agent_pb2_grpc.NodePeerServicer):
    """For nodes of the same swarm; logs only for its managers."""

    def __init__(self, images: ImageStore, logs: TaskLogs, cluster_id: Callable[[], str]) -> None:
        self._images = images
        self._logs = logs
        self._cluster_id = cluster_id

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
            peer.require(context, self._cluster_id())
            file = _opened(self._images.blob_path(request.digest), request.offset)
        except SwarmError as error:
            await errors.abort(context, error)
        with file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield agent_pb2.GetBlobResponse(data=chunk)

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
