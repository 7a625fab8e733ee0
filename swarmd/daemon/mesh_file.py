"""The mesh as the managers last told it: read from their message, kept on disk for the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog

from swarmd.kit.clock import Clock
from swarmd.model.addressing import block_of
from swarmd.model.errors import Unavailable
from swarmd.model.replace import replace
from swarmd.node.network.core.news import then
from swarmd.node.network.port import (
    Backend,
    Certificate,
    Endpoint,
    HttpRoute,
    NetworkState,
    NetworkView,
    NodeView,
    PublishedPort,
    ServiceView,
    Transport,
)
from swarmd.rpc.v1 import agent_pb2
from swarmd.security.durable import write_durably

_TRANSPORTS: dict[str, Transport] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp"}


PAUSE = 2.0
"""Least seconds between two writes; a large mesh is written less often still."""
_SHARE = 50
"""Writing may take one part in so many of the time."""
_LEAST = 1 << 20
"""Bytes of differences that are kept beside any whole."""


class MeshFile:
    """``<data dir>/mesh.json``: a whole in the first line, a difference in each that follows.  Losing it
    costs nothing but the time until a manager is reached.  Keys of certificates are left out."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._due: list[NetworkState] = []
        self._news = asyncio.Event()
        self._whole = self._size = 0

    def save(self, state: NetworkState) -> None:
        """To be written by :meth:`run`, soon."""
        self._due = [*self._due, state] if state.since else [state]
        self._news.set()

    async def run(self) -> None:
        """Write what is to be saved, until cancelled; the last of it then."""
        try:
            while True:
                await self._news.wait()
                began = self._clock.monotonic()
                await asyncio.to_thread(self._write, self._taken())
                await self._clock.sleep(PAUSE + (self._clock.monotonic() - began) * _SHARE)
        finally:
            if self._news.is_set():
                self._write(self._taken())

    def _taken(self) -> list[NetworkState]:
        self._news.clear()
        due, self._due = self._due, []
        return due

    def _write(self, due: list[NetworkState]) -> None:
        try:
            if due and due[0].since:
                self._append(due)
            elif due:
                self._begin(due)
        except (OSError, Unavailable) as error:
            if not self._due or self._due[0].since:
                self._due = [then(*due), *self._due]  # one, however long the disk stays full
            structlog.get_logger().error("mesh_not_saved", reason=str(error))

    def _begin(self, states: list[NetworkState]) -> None:
        data = b"".join(map(_line, states))
        write_durably(self._path, data)
        self._whole = self._size = len(data)

    def _append(self, states: list[NetworkState]) -> None:
        data = b"".join(map(_line, states))
        with self._path.open("r+b") as file:
            file.seek(self._size)
            file.truncate()  # what an attempt left that failed
            file.write(data)
        self._size += len(data)
        if self._size > 2 * self._whole + _LEAST and (state := self._read()) is not None:
            self._begin([state])

    def load(self) -> NetworkState | None:
        """None when there is none that can be read.  Version 0: what the managers say next is newer."""
        state = self._read()
        return None if state is None else replace(state, version=0)

    def _read(self) -> NetworkState | None:
        try:
            whole, *rest = map(_state, self._path.read_bytes().splitlines())
        except (OSError, ValueError):
            return None
        if whole is None or whole.since:
            return None
        fitting: list[NetworkState] = []
        for state in rest:
            if state is None or state.since != (fitting[-1] if fitting else whole).version:
                break
            fitting.append(state)
        return then(whole, *fitting)


def _line(state: NetworkState) -> bytes:
    return msgspec.json.encode(replace(state, certificates=())) + b"\n"


def _state(line: bytes) -> NetworkState | None:
    """None for half a line."""
    try:
        return msgspec.json.decode(line, type=NetworkState)
    except msgspec.DecodeError:
        return None


def network_state(message: agent_pb2.NetworkSnapshot) -> NetworkState:
    """The mesh of a message, in the network's own words."""
    return NetworkState(
        version=message.version,
        nodes=tuple(
            NodeView(
                id=node.id,
                number=node.number,
                address=node.address,
                block=block_of(node.number),
                alive=node.alive,
            )
            for node in message.nodes
        ),
        ports=tuple(_port(port) for port in message.ports),
        networks=tuple(_network(one) for one in message.networks),
        services=tuple(_service(one) for one in message.services),
        endpoints=tuple(_endpoint(one) for one in message.endpoints),
        routes=tuple(_route(one) for one in message.routes),
        certificates=tuple(Certificate(id=one.id, pem=one.pem) for one in message.certificates),
        since=message.since,
        changed=frozenset(message.changed),
        kept=frozenset(message.kept),
    )


def _port(port: agent_pb2.MeshPort) -> PublishedPort:
    return PublishedPort(
        service_id=port.service_id,
        service_name=port.service_name,
        protocol=_TRANSPORTS.get(port.protocol, "tcp"),
        port=port.port,
        backends=_backends(port.backends),
        host_ip=port.host_ip,
        allow=tuple(port.allow),
        sticky=port.sticky,
        source=port.source,
    )


def _route(one: agent_pb2.MeshRoute) -> HttpRoute:
    return HttpRoute(
        service_id=one.service_id,
        service_name=one.service_name,
        port=one.port,
        host=one.host,
        path=one.path,
        tls=one.tls,
        backends=_backends(one.backends),
    )


def _network(one: agent_pb2.MeshNetwork) -> NetworkView:
    return NetworkView(
        id=one.id,
        name=one.name,
        subnets=tuple(one.subnets),
        internal=one.internal,
        encrypted=one.encrypted,
        mtu=one.mtu,
    )


def _service(one: agent_pb2.MeshService) -> ServiceView:
    return ServiceView(
        id=one.id,
        name=one.name,
        network_id=one.network_id,
        addresses=tuple(one.addresses),
        aliases=tuple(one.aliases),
    )


def _endpoint(one: agent_pb2.MeshEndpoint) -> Endpoint:
    return Endpoint(
        task_id=one.task_id,
        name=one.name,
        service_id=one.service_id,
        slot=one.slot,
        node_id=one.node_id,
        network_id=one.network_id,
        addresses=tuple(one.addresses),
        aliases=tuple(one.aliases),
        up=one.up,
    )


def _backends(them: Iterable[agent_pb2.MeshBackend]) -> tuple[Backend, ...]:
    return tuple(
        Backend(
            task_id=one.task_id,
            address=one.address,
            port=one.port,
            node_id=one.node_id,
            address6=one.address6,
        )
        for one in them
    )
