"""The Registry service: pulls and pushes of one node, told as they go.  Unix socket only; it owns no rule."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from swarmd.image.port import Progress
from swarmd.image.registry.core.auth import Credential
from swarmd.kit.supervise import Nursery, caught
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import registry_pb2 as pb
from swarmd.rpc.v1 import registry_pb2_grpc

# gRPC method names are the protocol's.
# ruff: noqa: N802

STEPS = 100
"""Most messages about the bytes of one layer."""

Logins = Mapping[str, Credential]


class RegistryActions(Protocol):
    """What the node does.  All raise SwarmError."""

    async def pull(
        self, ref: str, *, platform: str, all_tags: bool, needed: bool, logins: Logins, progress: Progress
    ) -> None: ...

    async def push(self, ref: str, *, all_tags: bool, logins: Logins, progress: Progress) -> None: ...

    async def check(self, host: str, login: Credential) -> str: ...


class RegistryServer(registry_pb2_grpc.RegistryServicer):
    """A transfer ends with the call that began it."""

    def __init__(self, actions: RegistryActions, nursery: Nursery) -> None:
        self._actions = actions
        self._nursery = nursery

    async def Pull(self, request: pb.PullRequest, context: Any) -> AsyncIterator[pb.TransferProgress]:
        def work(progress: Progress) -> Awaitable[None]:
            return self._actions.pull(
                request.ref,
                platform=request.platform,
                all_tags=request.all_tags,
                needed=request.needed,
                logins=_logins(request.logins),
                progress=progress,
            )

        async for message in self._told(work, context):
            yield message

    async def Push(self, request: pb.PushRequest, context: Any) -> AsyncIterator[pb.TransferProgress]:
        def work(progress: Progress) -> Awaitable[None]:
            logins = _logins(request.logins)
            return self._actions.push(
                request.ref, all_tags=request.all_tags, logins=logins, progress=progress
            )

        async for message in self._told(work, context):
            yield message

    async def CheckLogin(self, request: pb.CheckLoginRequest, context: Any) -> pb.CheckLoginResponse:
        try:
            token = await self._actions.check(request.host, codec.from_proto(Credential, request.login))
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.CheckLoginResponse(identity_token=token)

    async def _told(
        self, work: Callable[[Progress], Awaitable[None]], context: Any
    ) -> AsyncIterator[pb.TransferProgress]:
        """What ``work`` says until it ends."""
        said: asyncio.Queue[pb.TransferProgress | None] = asyncio.Queue()
        outcome: list[Exception | None] = []

        async def run() -> None:
            async def working() -> None:
                await work(Speaker(said.put_nowait))

            try:
                outcome.append(await caught(working()))
            finally:
                said.put_nowait(None)

        task = self._nursery.start("transfer of an image", run())
        try:
            while (message := await said.get()) is not None:
                yield message
        finally:
            task.cancel()
        error = outcome[0] if outcome else Unavailable("the daemon is being stopped")
        if isinstance(error, SwarmError):
            await errors.abort(context, error)
        if error is not None:
            raise error


class Speaker:
    """A :class:`Progress` that does not say every byte."""

    def __init__(self, say: Callable[[pb.TransferProgress], None]) -> None:
        self._say = say
        self._last: dict[str, tuple[str, int]] = {}

    def __call__(self, item: str, state: str, current: int = 0, total: int = 0) -> None:
        was, at = self._last.get(item, ("", 0))
        if item and state == was and current != total and 0 <= current - at < total / STEPS:
            return
        if item:
            self._last[item] = (state, current)
        self._say(pb.TransferProgress(item=item, state=state, current=current, total=total))


def _logins(told: Iterable[pb.RegistryLogin]) -> dict[str, Credential]:
    return {login.host: codec.from_proto(Credential, login) for login in told}
