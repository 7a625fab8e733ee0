"""The calls on a container of this node, as the node port and the daemon's socket answer them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, SwarmError
from swarmd.node.containers import limits, usage
from swarmd.node.containers.commit import Wanted
from swarmd.node.containers.local import LocalContainers
from swarmd.node.containers.speaking import exec_config, speak
from swarmd.node.containers.views import view
from swarmd.node.runtime.core.exits import StartFailed
from swarmd.rpc import errors
from swarmd.rpc.v1 import containers_pb2 as pb
from swarmd.rpc.v1 import containers_pb2_grpc

T = TypeVar("T")

# gRPC method names are the protocol's.
# ruff: noqa: N802


class ContainerServer(containers_pb2_grpc.NodeContainersServicer):
    """``remote``: the callers are managers, whose users are elsewhere."""

    def __init__(self, containers: LocalContainers, clock: Clock, *, remote: bool) -> None:
        self._here = containers
        self._clock = clock
        self._remote = remote

    # -- sessions --------------------------------------------------------------------------------

    async def Exec(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.SessionOutput]:
        async with _told(context):
            first = await _first(request_iterator, "an exec")
            self._here.admit("exec", remote=self._remote)
            container_id = self._here.find(first.ref)
            config = exec_config(first.command)
            try:
                session = await self._here.exec(container_id, config)
            except StartFailed as error:
                end = pb.SessionEnd(exit_code=error.exit_code, error=str(error))
                yield pb.SessionOutput(end=end)
                return
            if config.detach:
                await session.close()
                yield pb.SessionOutput(started=self._started(container_id))
                return
            async for message in self._spoken(session, request_iterator, container_id, own=True):
                yield message

    async def Attach(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.SessionOutput]:
        async with _told(context):
            first = await _first(request_iterator, "an attach")
            self._here.admit("attach", remote=self._remote)
            container_id = self._here.find(first.ref)
            session = await self._here.attach(container_id, logs=first.logs)
            async for message in self._spoken(session, request_iterator, container_id, own=False):
                yield message

    async def _spoken(
        self, session: Any, inputs: Any, container_id: str, *, own: bool
    ) -> AsyncGenerator[pb.SessionOutput, None]:
        started = self._started(container_id)
        async with contextlib.aclosing(speak(session, inputs, started, own=own)) as messages:
            async for message in messages:
                yield message

    def _started(self, container_id: str) -> pb.SessionStarted:
        config = self._here.runtime.config(container_id)
        return pb.SessionStarted(
            container_id=container_id,
            node=self._here.hostname,
            tty=config is not None and config.tty,
            stdin=config is not None and config.stdin,
        )

    async def GetContainer(self, request: pb.ContainerRequest, context: Any) -> pb.GetContainerResponse:
        async def get() -> pb.GetContainerResponse:
            started = self._started(container_id := self._here.find(request.ref))
            return pb.GetContainerResponse(
                container=view(self._here, self._here.state(container_id)),
                tty=started.tty,
                stdin=started.stdin,
                node=started.node,
            )

        return await _answer(context, get)

    async def ReadLogs(
        self, request: pb.ContainerLogsRequest, context: Any
    ) -> AsyncIterator[pb.ContainerLogsResponse]:
        async with _told(context):
            lines = self._here.logs(
                self._here.find(request.ref), follow=request.follow, tail=request.tail, since=request.since
            )
            async with contextlib.aclosing(lines):  # type: ignore[type-var]
                async for line in lines:
                    yield pb.ContainerLogsResponse(
                        at=line.time, stderr=line.stream == "stderr", line=line.data
                    )

    # -- files -----------------------------------------------------------------------------------

    async def StatPath(self, request: pb.StatPathRequest, context: Any) -> pb.StatPathResponse:
        async def stat() -> pb.StatPathResponse:
            self._here.admit("copying", remote=self._remote)
            found = await self._here.archives.stat(
                self._here.find(request.ref), _path(request.path), follow=request.follow
            )
            return pb.StatPathResponse(
                name=found.name, mode=found.mode, size=found.size, mtime=found.mtime, link=found.link
            )

        return await _answer(context, stat)

    async def CopyOut(self, request: pb.CopyOutRequest, context: Any) -> AsyncIterator[pb.CopyOutResponse]:
        async with _told(context):
            self._here.admit("copying", remote=self._remote)
            pieces = self._here.read(self._here.find(request.ref), _path(request.path), follow=request.follow)
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    yield pb.CopyOutResponse(data=piece)

    async def CopyIn(self, request_iterator: Any, context: Any) -> pb.CopyInResponse:
        async def copy() -> pb.CopyInResponse:
            first = await _first(request_iterator, "a copy")
            self._here.admit("copying", remote=self._remote)

            async def pieces() -> AsyncIterator[bytes]:
                yield first.data
                async for message in request_iterator:
                    yield message.data

            await self._here.archives.write(
                self._here.find(first.ref), _path(first.path), pieces(), keep_owners=first.keep_owners
            )
            return pb.CopyInResponse()

        return await _answer(context, copy)

    async def Diff(self, request: pb.ContainerRequest, context: Any) -> pb.DiffResponse:
        async def diff() -> pb.DiffResponse:
            changes = await self._here.archives.diff(self._here.find(request.ref))
            return pb.DiffResponse(changes=[pb.FileChange(kind=kind, path=path) for kind, path in changes])

        return await _answer(context, diff)

    async def Commit(self, request: pb.CommitRequest, context: Any) -> pb.CommitResponse:
        async def commit() -> pb.CommitResponse:
            self._here.admit("commit", remote=self._remote)
            wanted = Wanted(
                image=request.image,
                author=request.author,
                message=request.message,
                changes=tuple(request.changes),
                pause=request.pause,
            )
            made = await self._here.commit(self._here.find(request.ref), wanted)
            return pb.CommitResponse(id=made, node=self._here.hostname)

        return await _answer(context, commit)

    # -- processes and use -----------------------------------------------------------------------

    async def Top(self, request: pb.ContainerRequest, context: Any) -> pb.TopResponse:
        return await _answer(context, lambda: usage.processes(self._here, self._here.find(request.ref)))

    async def Stats(self, request: pb.StatsRequest, context: Any) -> AsyncIterator[pb.StatsResponse]:
        async with _told(context):
            wanted = [self._here.find(ref) for ref in request.refs]
            async for answer in usage.stats(self._here, self._clock, wanted, stream=request.stream):
                yield answer

    async def Pause(self, request: pb.ContainerRequest, context: Any) -> pb.ContainerResponse:
        return await self._done(context, request.ref, self._here.runtime.pause)

    async def Unpause(self, request: pb.ContainerRequest, context: Any) -> pb.ContainerResponse:
        return await self._done(context, request.ref, self._here.runtime.resume)

    async def Kill(self, request: pb.KillRequest, context: Any) -> pb.ContainerResponse:
        return await self._done(
            context, request.ref, lambda container_id: self._here.kill(container_id, request.signal)
        )

    async def SetLimits(self, request: pb.SetLimitsRequest, context: Any) -> pb.ContainerResponse:
        return await self._done(
            context, request.ref, lambda container_id: limits.change(self._here, container_id, request)
        )

    async def Wait(self, request: pb.ContainerRequest, context: Any) -> pb.WaitResponse:
        async def wait() -> pb.WaitResponse:
            state = await self._here.runtime.wait(self._here.find(request.ref))
            return pb.WaitResponse(exit_code=state.exit_code or 0, error=state.error)

        return await _answer(context, wait)

    async def _done(
        self, context: Any, ref: str, act: Callable[[str], Awaitable[None]]
    ) -> pb.ContainerResponse:
        async def work() -> pb.ContainerResponse:
            container_id = self._here.find(ref)
            await act(container_id)
            return pb.ContainerResponse(container_id=container_id)

        return await _answer(context, work)


def _path(path: str) -> str:
    if "\0" in path or not path:
        raise Invalid("a path in a container is empty or has a zero byte")
    return path if path.startswith("/") else f"/{path}"


async def _first(messages: AsyncIterator[Any], what: str) -> Any:
    first = await anext(messages, None)
    if first is None:
        raise Invalid(f"{what} begins with a message that says which container is meant")
    return first


@contextlib.asynccontextmanager
async def _told(context: Any) -> AsyncIterator[None]:
    try:
        yield
    except SwarmError as error:
        await errors.abort(context, error)


async def _answer(context: Any, answer: Callable[[], Awaitable[T]]) -> T:
    async with _told(context):
        return await answer()
    raise AssertionError  # abort() raises
