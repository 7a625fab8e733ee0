"""The node's end of its session with the leader: connect, follow redirects, pass messages both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import grpc
import msgspec
import structlog

from swarmd.kit.backoff import Backoff
from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.kit.supervise import Nursery, caught
from swarmd.model.errors import Denied, SwarmError, Unavailable
from swarmd.model.objects import TaskStatus
from swarmd.node.agent.core.remotes import Remote, Remotes
from swarmd.node.agent.core.reporter import Reporter
from swarmd.rpc import codec
from swarmd.rpc.channels import Channels
from swarmd.rpc.errors import calling
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc, types_pb2

ANSWER_LIMIT = 10.0
"""Seconds a manager gets to open a session: it has to store that the node is there."""

STEADY = 5.0
"""A session of that many seconds was a good one: the next try comes soon again."""

ENDED = "the manager ended the session"


class Handlers(msgspec.Struct, frozen=True):
    """What the agent does with what the managers say."""

    assignments: Callable[[agent_pb2.Assignments], Awaitable[None]]
    network: Callable[[agent_pb2.NetworkSnapshot], Awaitable[None]]
    info: Callable[[agent_pb2.SessionInfo], Awaitable[None]]
    hello: Callable[[], agent_pb2.AgentHello]
    images: Callable[[], agent_pb2.ImageInventory]
    certificate: Callable[[], types_pb2.NodeCertificate]
    blobs: Callable[[], Collection[bytes]] = tuple
    """Of all blobs this node holds, the plain bytes of their digests."""
    preload: Callable[[agent_pb2.Preload], None] = lambda order: None
    """An image is to be fetched ahead; answers come by :meth:`SessionClient.say`."""
    opened: Callable[[], None] = lambda: None
    """A session began."""


class SessionClient:
    """Keeps one session alive for as long as the node is part of the swarm."""

    def __init__(
        self,
        remotes: Remotes,
        channels: Channels,
        reporter: Callable[[], Reporter],
        handlers: Handlers,
        clock: Clock,
        nursery: Nursery,
    ) -> None:
        self._remotes = remotes
        self._channels = channels
        self._reporter = reporter
        self._handlers = handlers
        self._clock = clock
        self._nursery = nursery
        self._log = structlog.get_logger()
        self._news = asyncio.Event()
        self._images_due = True
        self._certificate_due = False
        self._told_blobs: set[bytes] | None = None
        self._words: dict[str, agent_pb2.PreloadStatus] = {}
        self._heartbeat = 1.0
        self._connected: Remote | None = None
        self.problem = ""

    @property
    def connected(self) -> bool:
        return self._connected is not None

    def leader_channel(self) -> grpc.aio.Channel:
        """To the manager that holds this session; raises Unavailable without one."""
        if self._connected is None:
            raise Unavailable("no manager can be reached at the moment")
        return self._channels.to(self._connected.address, self._connected.node_id)

    def news(self) -> None:
        """There are statuses to report."""
        self._news.set()

    def images_changed(self) -> None:
        """The node's image inventory is to be told again."""
        self._images_due = True
        self._news.set()

    def say(self, status: agent_pb2.PreloadStatus) -> None:
        """How the fetching of an image goes; of what is not said yet only the newest is."""
        self._words[status.id] = status
        self._news.set()

    def certificate_changed(self) -> None:
        """What the hello said of the node's certificate is to be told again."""
        self._certificate_due = True
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(first=0.1, cap=2.0, fraction=random_fraction)
        while True:
            remote = self._remotes.next()
            if remote is None:
                self.problem = "no manager of the swarm is known to this node"
                await self._clock.sleep(1.0)
                continue
            began = self._clock.monotonic()
            try:
                error = await caught(self._session(remote))
            finally:
                self._connected = None
            if error is not None:
                self._failed(remote, error)
            if self._clock.monotonic() - began >= STEADY:
                backoff.reset()
            await self._clock.sleep(backoff.next())

    def _failed(self, remote: Remote, error: Exception) -> None:
        self._remotes.failed()
        text = str(error) if isinstance(error, SwarmError) else f"internal error: {error!r}"
        if text != self.problem:
            self._log.warning(
                "session_failed",
                manager=remote.address,
                reason=text,
                fatal=isinstance(error, Denied),
                exc_info=None if isinstance(error, SwarmError) else error,
            )
        self.problem = text

    async def _session(self, remote: Remote) -> None:
        """One session; returns after a redirect, raises SwarmError when it fails or ends."""
        with self._channels.using(remote.address, remote.node_id) as channel:
            await self._session_over(channel, remote)

    async def _session_over(self, channel: grpc.aio.Channel, remote: Remote) -> None:
        stub = agent_pb2_grpc.DispatcherStub(channel)
        ended = asyncio.Event()
        hello = agent_pb2.AgentMessage(hello=self._handlers.hello())
        stream = stub.Session(self._outgoing(hello, ended))
        try:
            with calling():
                first = await self._first(stream)
                if first.WhichOneof("body") == "redirect":
                    self._follow(first.redirect)
                    return
                self._opened(remote)
                await self._receive(first)
                while isinstance(message := await stream.read(), agent_pb2.ManagerMessage):
                    await self._receive(message)
        finally:
            ended.set()
            self._news.set()
            stream.cancel()
        raise Unavailable(ENDED)

    async def _first(self, stream: Any) -> agent_pb2.ManagerMessage:
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                message = await stream.read()
        except TimeoutError:
            raise Unavailable(f"the manager did not answer within {ANSWER_LIMIT:.0f} seconds") from None
        if not isinstance(message, agent_pb2.ManagerMessage):
            raise Unavailable(ENDED)  # grpc.aio.EOF
        return message

    def _opened(self, remote: Remote) -> None:
        self._connected, self.problem = remote, ""
        self._remotes.leads(remote)
        self._log.info("session_opened", manager=remote.address)
        self._news.set()  # what was held back until somebody listens goes out now
        self._handlers.opened()

    def _follow(self, redirect: agent_pb2.Redirect) -> None:
        managers = [remote_of(peer) for peer in redirect.managers]
        if not redirect.HasField("leader"):
            self._remotes.hint(managers)
            self._remotes.failed()
            self.problem = "the swarm has no leader at the moment"
            return
        leader = remote_of(redirect.leader)
        if all(remote.node_id != leader.node_id for remote in managers):
            managers.append(leader)
        self._remotes.hint(managers, leader)

    async def _receive(self, message: agent_pb2.ManagerMessage) -> None:
        kind = message.WhichOneof("body")
        if kind == "assignments":
            await self._handlers.assignments(message.assignments)
        elif kind == "network":
            await self._handlers.network(message.network)
        elif kind == "ack":
            self._reporter().acknowledged(message.ack.sequence)
            self._news.set()
        elif kind == "preload":
            self._handlers.preload(message.preload)
        elif kind == "session":
            self._beat_every(message.session.heartbeat or 1.0)
            self._remotes.learn(remote_of(peer) for peer in message.session.managers)
            await self._handlers.info(message.session)

    def _beat_every(self, seconds: float) -> None:
        if seconds != self._heartbeat:
            self._heartbeat = seconds
            self._news.set()  # it counts from now on, not after a longer one

    async def _outgoing(
        self, hello: agent_pb2.AgentMessage, ended: asyncio.Event
    ) -> AsyncIterator[agent_pb2.AgentMessage]:
        yield hello
        reporter = self._reporter()
        reporter.restart()
        self._images_due, self._told_blobs = True, None
        while not ended.is_set():
            self._news.clear()
            if self._connected is not None:
                for message in self._due():
                    yield message
                batch = reporter.batch()
                if batch is not None:
                    yield _status_batch(*batch)
            try:
                async with asyncio.timeout(self._heartbeat):
                    await self._news.wait()
            except TimeoutError:
                yield agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat())

    def _due(self) -> list[agent_pb2.AgentMessage]:
        """What is new of this node besides the statuses of its tasks."""
        due: list[agent_pb2.AgentMessage] = []
        if self._images_due:
            self._images_due = False
            due.append(agent_pb2.AgentMessage(images=self._handlers.images()))
            due += self._blobs_due()
        if self._certificate_due:
            self._certificate_due = False
            due.append(agent_pb2.AgentMessage(certificate=self._handlers.certificate()))
        words, self._words = self._words, {}
        return [*due, *(agent_pb2.AgentMessage(preload=status) for status in words.values())]

    def _blobs_due(self) -> list[agent_pb2.AgentMessage]:
        held, told = set(self._handlers.blobs()), self._told_blobs
        if held == told:
            return []
        self._told_blobs = held
        message = agent_pb2.BlobInventory(
            complete=told is None, added=held - (told or set()), removed=(told or set()) - held
        )
        return [agent_pb2.AgentMessage(blobs=message)]


def remote_of(peer: agent_pb2.ManagerPeer) -> Remote:
    """A manager as a message names it."""
    return Remote(peer.node_id, peer.address, peer.raft_address)


def _status_batch(sequence: int, statuses: dict[str, TaskStatus]) -> agent_pb2.AgentMessage:
    message = agent_pb2.StatusBatch(sequence=sequence)
    for task_id, status in statuses.items():
        codec.fill(message.reports.add(task_id=task_id).status, status)
    return agent_pb2.AgentMessage(statuses=message)
