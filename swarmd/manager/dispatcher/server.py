"""The Dispatcher service of a manager: sessions while it leads, a redirect while it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog

from swarmd.kit.supervise import Nursery
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.manager.dispatcher.session import Session
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, SwarmError, Unavailable
from swarmd.rpc import errors
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.security import peer

_log = structlog.get_logger()


HELLO_LIMIT = 10.0
"""Seconds a node gets to say who it is."""


class DispatcherServer(agent_pb2_grpc.DispatcherServicer):
    """Lives as long as the manager; the dispatcher behind it as long as a term."""

    def __init__(
        self,
        *,
        cluster_id: Callable[[], str],
        current: Callable[[], Dispatcher | None],
        redirect: Callable[[], agent_pb2.Redirect],
        nursery: Nursery,
    ) -> None:
        self._cluster_id = cluster_id
        self._current = current
        self._redirect = redirect
        self._nursery = nursery

    async def Session(  # noqa: N802
        self, request_iterator: AsyncIterator[agent_pb2.AgentMessage], context: Any
    ) -> AsyncIterator[agent_pb2.ManagerMessage]:
        """One node's session; ends when the node goes, the session is replaced or the term is over."""
        dispatcher = self._current()
        if dispatcher is None:
            yield agent_pb2.ManagerMessage(redirect=self._redirect())
            return
        try:
            identity = peer.require(context, self._cluster_id())
            first = await _hello(request_iterator)
            if first is None or first.WhichOneof("body") != "hello":
                raise Invalid("a session begins with a hello")
            session = await dispatcher.open(identity.node_id, first.hello)
        except SwarmError as error:
            await errors.abort(context, error)
        reader = self._nursery.start(
            f"session of {identity.node_id}", _read(dispatcher, session, request_iterator)
        )
        try:
            async for message in session.messages():
                yield message
        finally:
            reader.cancel()
            dispatcher.close(session)

    async def LocateImage(  # noqa: N802
        self, request: agent_pb2.LocateImageRequest, context: Any
    ) -> agent_pb2.LocateImageResponse:
        try:
            caller = peer.require(context, self._cluster_id()).node_id
            holdings, ref = self._leading().holdings, image_ref.parse(request.ref)
            if request.failed:
                holdings.not_pulled(ref)
            return holdings.answer(ref, caller)
        except SwarmError as error:
            await errors.abort(context, error)

    async def LocateBlobs(  # noqa: N802
        self, request: agent_pb2.LocateBlobsRequest, context: Any
    ) -> agent_pb2.LocateBlobsResponse:
        try:
            peer.require(context, self._cluster_id())
            return self._leading().holdings.blob_holders(request.digests)
        except SwarmError as error:
            await errors.abort(context, error)

    async def Leave(self, request: agent_pb2.LeaveRequest, context: Any) -> agent_pb2.LeaveResponse:  # noqa: N802
        try:
            identity = peer.require(context, self._cluster_id())
            self._leading().node_left(identity.node_id)
        except SwarmError as error:
            await errors.abort(context, error)
        return agent_pb2.LeaveResponse()

    async def GetRegistryLogin(  # noqa: N802
        self, request: agent_pb2.GetRegistryLoginRequest, context: Any
    ) -> agent_pb2.GetRegistryLoginResponse:
        try:
            identity = peer.require(context, self._cluster_id())
            row = self._leading().login_for(identity.node_id, request.host)
        except SwarmError as error:
            await errors.abort(context, error)
        response = agent_pb2.GetRegistryLoginResponse()
        if row is not None:
            response.login.username, response.login.password = row.username, row.password
            response.login.identity_token = row.identity_token
        return response

    def _leading(self) -> Dispatcher:
        dispatcher = self._current()
        if dispatcher is None:
            raise Unavailable("this manager does not lead the swarm at the moment")
        return dispatcher


async def _hello(messages: AsyncIterator[agent_pb2.AgentMessage]) -> agent_pb2.AgentMessage | None:
    try:
        async with asyncio.timeout(HELLO_LIMIT):
            return await anext(messages, None)
    except TimeoutError as error:
        raise Invalid(f"no hello within {HELLO_LIMIT:.0f} s") from error


async def _read(
    dispatcher: Dispatcher, session: Session, messages: AsyncIterator[agent_pb2.AgentMessage]
) -> None:
    try:
        async for message in messages:
            dispatcher.receive(session, message)
    except Invalid as error:
        _log.warning("session_ended", node=session.node_id, reason=str(error))
    finally:
        session.end()
