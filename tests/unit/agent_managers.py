"""Managers for the tests of the agent's session: a real gRPC server each, doing as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import grpc

from swarmd.kit.supervise import Nursery
from swarmd.model.errors import SwarmError
from swarmd.model.objects import TaskStatus
from swarmd.node.agent.core.remotes import Remote, Remotes
from swarmd.node.agent.core.reporter import Reporter
from swarmd.node.agent.session import Handlers, SessionClient
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc, types_pb2
from tests.unit.agent_fakes import StillClock


class Manager(agent_pb2_grpc.DispatcherServicer):
    """One manager; its node id is its name, its address its port on loopback."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""
        self.heartbeat = 60.0
        self.redirect: agent_pb2.Redirect | None = None
        self.refusal: SwarmError | None = None
        self.silent = False
        self.acknowledges = True
        self.hellos: list[agent_pb2.AgentHello] = []
        self.batches: list[dict[str, TaskStatus]] = []
        self.sequences: list[int] = []
        self.inventories: list[dict[str, str]] = []
        self.heartbeats = 0
        self._outbox: asyncio.Queue[agent_pb2.ManagerMessage | None] = asyncio.Queue()
        self._nursery = Nursery(lambda name, error: None)
        self._server: Any = None

    @property
    def remote(self) -> Remote:
        return Remote(self.name, self.address)

    @property
    def peer(self) -> agent_pb2.ManagerPeer:
        return agent_pb2.ManagerPeer(node_id=self.name, address=self.address)

    async def open(self) -> None:
        self._server = grpc.aio.server()
        agent_pb2_grpc.add_DispatcherServicer_to_server(self, self._server)
        self.address = str(self._server.add_insecure_port("127.0.0.1:0"))
        await self._server.start()

    async def close(self) -> None:
        await self._nursery.close()
        await self._server.stop(None)

    def send(self, **body: Any) -> None:
        self._outbox.put_nowait(agent_pb2.ManagerMessage(**body))

    def end(self) -> None:
        """The session is over: the manager does not lead any more."""
        self._outbox.put_nowait(None)

    async def Session(  # noqa: N802
        self, request_iterator: AsyncIterator[agent_pb2.AgentMessage], context: Any
    ) -> AsyncIterator[agent_pb2.ManagerMessage]:
        self.hellos.append((await anext(request_iterator)).hello)
        if self.refusal is not None:
            await errors.abort(context, self.refusal)
        if self.redirect is not None:
            yield agent_pb2.ManagerMessage(redirect=self.redirect)
            return
        if self.silent:
            await asyncio.Event().wait()
        self._outbox = asyncio.Queue()
        reader = self._nursery.start("reader", self._read(request_iterator))
        try:
            yield agent_pb2.ManagerMessage(session=agent_pb2.SessionInfo(heartbeat=self.heartbeat))
            while (message := await self._outbox.get()) is not None:
                yield message
        finally:
            reader.cancel()

    async def LocateImage(self, request: Any, context: Any) -> Any:  # noqa: N802
        await errors.abort(context, SwarmError("not asked in these tests"))

    async def Leave(self, request: Any, context: Any) -> Any:  # noqa: N802
        await errors.abort(context, SwarmError("not asked in these tests"))

    async def _read(self, messages: AsyncIterator[agent_pb2.AgentMessage]) -> None:
        async for message in messages:
            kind = message.WhichOneof("body")
            if kind == "statuses":
                reports = message.statuses.reports
                self.batches.append({r.task_id: codec.from_proto(TaskStatus, r.status) for r in reports})
                self.sequences.append(message.statuses.sequence)
                if self.acknowledges:
                    self.send(ack=agent_pb2.StatusAck(sequence=message.statuses.sequence))
            elif kind == "images":
                self.inventories.append({image.ref: image.digest for image in message.images.images})
            elif kind == "heartbeat":
                self.heartbeats += 1


class PlainChannels:
    """Channels without TLS; the address is a port on loopback."""

    def __init__(self) -> None:
        self._open: dict[str, grpc.aio.Channel] = {}

    def to(self, address: str, name: str) -> grpc.aio.Channel:
        if address not in self._open:
            options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 50)]
            self._open[address] = grpc.aio.insecure_channel(f"127.0.0.1:{address}", options=options)
        return self._open[address]

    def using(self, address: str, name: str) -> contextlib.AbstractContextManager[grpc.aio.Channel]:
        return contextlib.nullcontext(self.to(address, name))

    async def close(self) -> None:
        channels, self._open = list(self._open.values()), {}
        for channel in channels:
            await channel.close(None)


class Node:
    """A session client with everything around it."""

    def __init__(self, *managers: Manager) -> None:
        self.clock = StillClock()
        self.reporter = Reporter()
        self.channels = PlainChannels()
        self.remotes = Remotes(manager.remote for manager in managers)
        self.images = {"demo:1": "sha256:d"}
        self.assignments: list[agent_pb2.Assignments] = []
        self.trouble: Exception | None = None
        self.failures: list[BaseException] = []
        self.nursery = Nursery(lambda name, error: self.failures.append(error))
        self.session = SessionClient(
            self.remotes,
            cast("Any", self.channels),
            lambda: self.reporter,
            Handlers(
                assignments=self._assignments,
                network=self._nothing,
                info=self._nothing,
                hello=lambda: agent_pb2.AgentHello(address="10.0.0.1"),
                images=self._images,
                certificate=lambda: types_pb2.NodeCertificate(issuer="ab"),
            ),
            self.clock,
            self.nursery,
        )

    def start(self) -> None:
        self.running = self.nursery.start("session", self.session.run())

    def note(self, task_id: str, status: TaskStatus) -> None:
        self.reporter.note(task_id, status)
        self.session.news()

    async def close(self) -> None:
        await self.nursery.close()
        await self.channels.close()
        assert self.failures == []

    async def _assignments(self, message: agent_pb2.Assignments) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.assignments.append(message)

    async def _nothing(self, message: object) -> None:
        pass

    def _images(self) -> agent_pb2.ImageInventory:
        inventory = agent_pb2.ImageInventory()
        for ref, digest in self.images.items():
            inventory.images.add(ref=ref, digest=digest)
        return inventory


@contextlib.asynccontextmanager
async def swarm(*names: str) -> AsyncIterator[tuple[Node, tuple[Manager, ...]]]:
    """Managers of these names and a node that knows them all, in this order; the node is not started."""
    managers = tuple(Manager(name) for name in names)
    for manager in managers:
        await manager.open()
    node = Node(*managers)
    try:
        yield node, managers
    finally:
        await node.close()
        for manager in managers:
            await manager.close()


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)
