"""The Builder service of the daemon's socket: a build and its client in one stream, and the build cache.

::

    client: options, list of the context ──► daemon: steps, output, files it needs
    client: those files                  ──► daemon: … the image, or why there is none
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from swarmd.image.build.core.context import FEW, Told, read_listing
from swarmd.image.build.core.excerpt import excerpt
from swarmd.image.build.core.graph import Warned
from swarmd.image.build.core.options import Options
from swarmd.image.build.core.platform import normal_platform
from swarmd.image.build.work import Failed
from swarmd.image.kernel import goarch
from swarmd.image.registry.core.auth import Credential
from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, Report
from swarmd.model.errors import Invalid, SwarmError
from swarmd.node.building.builder import Builder, Request
from swarmd.node.building.context import Context, Sent
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import build_pb2 as pb
from swarmd.rpc.v1 import build_pb2_grpc

# gRPC method names are the protocol's.
# ruff: noqa: N802

_MOST_OUTPUT = 2 << 20
"""Bytes of one step: BuildKit's."""

_CLIPPED = b"[output clipped, log limit 2MiB reached]\n"


class BuilderServer(build_pb2_grpc.BuilderServicer):
    """Translates; the builder acts.  ``changed`` is called when there is a new image."""

    def __init__(self, builder: Builder, clock: Clock, changed: Callable[[], None], report: Report) -> None:
        self._builder = builder
        self._clock = clock
        self._changed = changed
        self._report = report

    async def Build(
        self, request_iterator: AsyncIterator[pb.BuildRequest], context: Any
    ) -> AsyncIterator[pb.BuildResponse]:
        call = _Call(self._builder, self._clock, request_iterator)
        nursery = Nursery(self._report)
        try:
            nursery.start("build", call.work())
            async for message in call.messages():
                yield message
        finally:
            await nursery.close()
        if call.error is not None:
            await errors.abort(context, call.error)
        self._changed()

    async def ListCache(self, request: pb.ListCacheRequest, context: Any) -> pb.ListCacheResponse:
        usage = await self._builder.usage()
        answer = pb.ListCacheResponse(layers=usage.layers, contexts=usage.contexts, mounts=usage.mounts)
        for row in await asyncio.to_thread(self._builder.cache.rows):
            layer = row.outcome.layer
            answer.entries.add(
                key=row.key,
                text=row.text,
                size=row.size,
                created_at=row.outcome.created,
                used_at=row.used,
                digest=layer.digest if layer is not None else "",
            )
        return answer

    async def PruneCache(self, request: pb.PruneCacheRequest, context: Any) -> pb.PruneCacheResponse:
        pruned = await self._builder.prune(before=request.before, keep=request.keep, everything=request.all)
        return pb.PruneCacheResponse(deleted=pruned.keys, reclaimed=pruned.freed)

    async def ExportCache(
        self, request: pb.ExportCacheRequest, context: Any
    ) -> AsyncIterator[pb.ExportCacheResponse]:
        try:
            async for data in self._builder.export_cache():
                yield pb.ExportCacheResponse(data=data)
        except SwarmError as error:
            await errors.abort(context, error)

    async def ImportCache(
        self, request_iterator: AsyncIterator[pb.ImportCacheRequest], context: Any
    ) -> pb.ImportCacheResponse:
        async def data() -> AsyncIterator[bytes]:
            async for message in request_iterator:
                yield message.data

        try:
            return pb.ImportCacheResponse(entries=await self._builder.import_cache(data()))
        except SwarmError as error:
            await errors.abort(context, error)


class _Call:
    """One build for one client: what it asks for, and what it is told.  Implements the solver's Watch."""

    def __init__(self, builder: Builder, clock: Clock, incoming: AsyncIterator[pb.BuildRequest]) -> None:
        self._builder = builder
        self._clock = clock
        self._incoming = incoming
        self._vertices: list[pb.BuildVertex] = []
        self._written: dict[int, int] = {}
        self._outgoing: asyncio.Queue[pb.BuildResponse | None] = asyncio.Queue()
        self._untold: dict[int, pb.BuildResponse] = {}
        self.error: SwarmError | None = SwarmError("the build broke off: the daemon's log says why")

    async def work(self) -> None:
        """The whole of it; how it ended is in ``error``."""
        options = pb.BuildOptions()
        try:
            options = await self._options()
            await self._build(options)
            self.error = None
        except SwarmError as error:
            self._failed(error, options)
        finally:
            self._outgoing.put_nowait(None)

    async def messages(self) -> AsyncIterator[pb.BuildResponse]:
        """What the client is told, until all is said."""
        while (message := await self._outgoing.get()) is not None:
            if self._untold.get(message.vertex.number) is message:
                del self._untold[message.vertex.number]
            yield message

    async def _build(self, options: pb.BuildOptions) -> None:
        request = request_of(options)
        if options.check:
            self._warn(await self._builder.check(request))
            return
        told = await self._told()
        listing = read_listing(told) if len(told) <= FEW else await asyncio.to_thread(read_listing, told)
        context = Context(listing, self._builder.spool, self._clock, self._need, self._files())
        built = await self._builder.build(request, context, self, self._warn)
        done = pb.BuildDone(id=built.info.id, digest=built.info.digest, refs=built.refs)
        self._say(pb.BuildResponse(done=done))

    # -- what the client says --------------------------------------------------------------------

    async def _options(self) -> pb.BuildOptions:
        first = await anext(self._incoming, None)
        if first is None or first.WhichOneof("body") != "options":
            raise Invalid("a build begins with its options")
        return first.options

    async def _told(self) -> list[Told]:
        told: list[Told] = []
        async for message in self._incoming:
            if message.WhichOneof("body") != "entries":
                raise Invalid("after its options a build sends the list of its context")
            told.extend(map(_entry, message.entries.entries))
            if message.entries.last:
                return told
        raise Invalid("the list of the build context ends too soon")

    async def _files(self) -> AsyncIterator[Sent]:
        async for message in self._incoming:
            for file in message.files.files:
                yield Sent(file.number, file.data, file.last)

    # -- what it is told -------------------------------------------------------------------------

    def _need(self, numbers: Sequence[int]) -> None:
        self._say(pb.BuildResponse(needed=pb.NeededFiles(numbers=numbers)))

    def _warn(self, warnings: Sequence[Warned]) -> None:
        for one in warnings:
            warning = pb.BuildWarning(rule=one.rule, line=one.line, message=one.message)
            self._say(pb.BuildResponse(warning=warning))

    def _failed(self, error: SwarmError, options: pb.BuildOptions) -> None:
        failure = pb.BuildFailure(vertex=-1, message=str(error))
        if isinstance(error, Failed):
            text = options.dockerfile.decode(errors="replace")
            step = error.step
            failure.vertex = error.vertex
            failure.excerpt = excerpt(
                options.dockerfile_name or "Dockerfile", text, step.line, step.last_line
            )
        self._say(pb.BuildResponse(failure=failure))
        self.error = error

    def vertex(self, name: str) -> int:
        """A new step."""
        made = pb.BuildVertex(number=len(self._vertices), name=name)
        self._vertices.append(made)
        self._tell(made)
        return made.number

    def started(self, vertex: int) -> None:
        """It is being worked on."""
        self._vertices[vertex].started = self._clock.now()
        self._tell(self._vertices[vertex])

    def ended(self, vertex: int, *, cached: bool = False, error: str = "") -> None:
        """It is done."""
        one = self._vertices[vertex]
        one.completed, one.cached, one.error = self._clock.now(), cached, error
        one.started = one.started or one.completed
        self._tell(one)

    def output(self, vertex: int, stream: int, data: bytes) -> None:
        """What a program wrote; too much of it is left out."""
        before = self._written.get(vertex, 0)
        self._written[vertex] = before + len(data)
        if before >= _MOST_OUTPUT:
            return
        if before + len(data) >= _MOST_OUTPUT:
            data = data[: _MOST_OUTPUT - before] + b"\n" + _CLIPPED
        output = pb.BuildOutput(vertex=vertex, stream=stream, data=data, at=self._clock.now())
        self._say(pb.BuildResponse(output=output))

    def progress(self, item: str, state: str, current: int = 0, total: int = 0) -> None:
        """How base images come."""
        told = pb.BuildProgress(item=item, state=state, current=current, total=total)
        self._say(pb.BuildResponse(progress=told))

    def _tell(self, vertex: pb.BuildVertex) -> None:
        """As it is when the message goes: what happens until then needs no message of its own."""
        told = self._untold.get(vertex.number)
        if told is None:
            told = self._untold[vertex.number] = pb.BuildResponse()
            self._outgoing.put_nowait(told)
        told.vertex.CopyFrom(vertex)

    def _say(self, message: pb.BuildResponse) -> None:
        """Behind all that happened before."""
        self._untold.clear()
        self._outgoing.put_nowait(message)


def request_of(options: pb.BuildOptions) -> Request:
    """What the builder is asked for.  Raises Invalid."""
    if options.network not in ("", "default", "none", "host"):
        raise Invalid(f'invalid network "{options.network}": a build has default, none or host')
    here = f"linux/{goarch()}"
    return Request(
        dockerfile=options.dockerfile,
        options=Options(
            target=options.target,
            build_args=dict(options.build_args),
            labels=dict(options.labels),
            platform=normal_platform(options.platform or here, here),
            build_platform=here,
            ignore=tuple(options.ignore),
        ),
        tags=tuple(options.tags),
        fresh=tuple(options.no_cache_filter),
        fresh_all=options.no_cache,
        pull=options.pull,
        network=options.network or "default",
        logins={one.host: codec.from_proto(Credential, one) for one in options.logins},
        secrets={one.id: one.value for one in options.secrets},
    )


def _entry(entry: pb.ContextEntry) -> Told:
    return Told(
        path=entry.path.decode(errors="surrogateescape"),
        mode=entry.mode,
        size=entry.size,
        mtime_ns=entry.mtime_ns,
        link=entry.link.decode(errors="surrogateescape"),
        digest=entry.digest.hex(),
    )


def add_to(server: grpc.aio.Server, one: BuilderServer) -> None:
    """Serve it."""
    build_pb2_grpc.add_BuilderServicer_to_server(one, server)
