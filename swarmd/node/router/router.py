"""HTTP on ports that services share: what every node serves by host name and path.

Each request is looked at by itself, so a task that has left gets none from the moment that is known, and what
it is answering comes to its end.
"""

from __future__ import annotations

import asyncio
import errno
import resource
from collections.abc import Callable, Collection, Iterable

import structlog
from msgspec.structs import replace

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, Report
from swarmd.model.errors import Conflict
from swarmd.node.network.measures import HttpCount
from swarmd.node.network.port import Certificate, HttpRoute
from swarmd.node.router.client import Line
from swarmd.node.router.core.choice import key_of
from swarmd.node.router.exchange import Parts
from swarmd.node.router.listener import Listener
from swarmd.node.router.upstream import Pool

_SWEEP_SECONDS = 1.0
_SPARE_DESCRIPTORS = 256

AccessLog = Callable[[Line], None]


class Router:
    """All shared ports of this node.  ``log``: where the access log goes, if it is wanted."""

    def __init__(self, clock: Clock, report: Report, log: AccessLog | None = None) -> None:
        self._clock = clock
        self._report = report
        self._nursery = Nursery(report)
        self._pool = Pool(clock.monotonic)
        self._parts = Parts(self._pool, self._nursery, clock.monotonic, log)
        self._listeners: dict[int, Listener] = {}
        self._leaving: list[Listener] = []
        self._taken: dict[int, str] = {}
        self._sweeper: asyncio.Task[object] | None = None
        self._most = max(64, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS) // 4)

    def release(self, routes: Iterable[HttpRoute]) -> None:
        """Let go of the ports that are none of these routes' any more: a service may want one alone."""
        wanted = {route.port for route in routes}
        for port in [port for port in self._listeners if port not in wanted]:
            self._leave(port)

    async def update(self, routes: Iterable[HttpRoute], certificates: Iterable[Certificate]) -> None:
        """Serve exactly these.  A port that another program holds is tried each time."""
        routes = tuple(routes)
        self.release(routes)
        pems = {one.id: one.pem for one in certificates}
        self._pool.keep_only(key_of(backend) for route in routes for backend in route.backends)
        self._parts.counting.keep_only({(route.service_name, str(route.port)) for route in routes})
        by_port: dict[int, list[HttpRoute]] = {}
        for route in routes:
            by_port.setdefault(route.port, []).append(route)
        before, self._taken = self._taken, {}
        for port, found in by_port.items():
            await self._serve(port, tuple(found), pems)
        for port in self._taken.keys() - before.keys():
            self._report("published port", Conflict(self._taken[port]))
        if by_port and self._sweeper is None:
            self._sweeper = self._nursery.start("router sweeper", self._sweep())

    def is_waiting(self) -> bool:
        """Whether another program holds a port that is wanted."""
        return bool(self._taken)

    def problems(self) -> tuple[str, ...]:
        """A sentence for each port or certificate that cannot be served."""
        said = [problem for one in self._listeners.values() for problem in one.certificates.problems]
        return (*(self._taken[port] for port in sorted(self._taken)), *said)

    def counts(self) -> HttpCount:
        """What was asked of it since it was made."""
        every = (*self._listeners.values(), *self._leaving)
        return self._parts.counting.counts(sum(one.clients for one in every))

    async def close(self) -> None:
        """Give every port back and end every connection."""
        for listener in (*self._listeners.values(), *self._leaving):
            listener.close(now=True)
        self._listeners.clear()
        self._leaving.clear()
        self._taken.clear()
        self._pool.close()
        await self._nursery.close()
        self._sweeper = None

    async def _serve(self, port: int, routes: tuple[HttpRoute, ...], pems: dict[str, bytes]) -> None:
        tls = any(route.tls for route in routes)
        listener = self._listeners.get(port)
        if listener is not None and listener.is_tls != tls:
            self._leave(port)
            listener = None
        if listener is None:
            listener = Listener(port, self._parts, self._most)
            try:
                listener.update(routes, pems)
                await listener.open(tls=tls)
            except OSError as error:
                listener.close(now=True)
                if error.errno == errno.EADDRINUSE:
                    why = "is taken on this node by another process"
                else:
                    why = f"cannot be opened on this node: {error.strerror}"
                self._taken[port] = f"port {port}/tcp {why}"
                return
            self._listeners[port] = listener
        listener.update(routes, pems)

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(_SWEEP_SECONDS)
            now = self._clock.monotonic()
            self._pool.sweep(self._report)
            self._leaving = [listener for listener in self._leaving if listener.has_clients]
            for listener in (*self._listeners.values(), *self._leaving):
                listener.sweep(now, self._report)

    def _leave(self, port: int) -> None:
        listener = self._listeners.pop(port)
        listener.close()
        self._leaving.append(listener)


def reachable(routes: Iterable[HttpRoute], alive: Collection[str]) -> tuple[HttpRoute, ...]:
    """The routes with the backends whose nodes (ids) are alive."""
    return tuple(
        replace(route, backends=tuple(one for one in route.backends if one.node_id in alive))
        for route in routes
    )


def access_log() -> AccessLog:
    """Writes a line for each request to the daemon's log."""
    log = structlog.get_logger("router")

    def write(line: Line) -> None:
        log.info(
            "http_request",
            client=line.client,
            method=line.method,
            host=line.host,
            path=line.path,
            version=line.version,
            port=line.port,
            status=line.status,
            bytes=line.bytes,
            ms=round(line.seconds * 1000, 1),
            service=line.service,
            task=line.task,
        )

    return write
