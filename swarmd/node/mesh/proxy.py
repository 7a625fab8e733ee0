"""The user-space side of every published port: reservation, localhost, and all traffic without nftables.

Each port is bound on all addresses, or on the one it is for, as long as it is published, so no other program
can take it and one that has it already is found out.  While a TCP port has no backend it is bound but does
not listen: the kernel itself refuses connections.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Collection, Mapping

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, Report
from swarmd.node.mesh import sockets
from swarmd.node.mesh.core import choice
from swarmd.node.mesh.core.choice import Peer, Prefix
from swarmd.node.mesh.core.published import PROXIED, PortKey, name_of
from swarmd.node.mesh.link import Socket
from swarmd.node.mesh.tcp import Relay
from swarmd.node.mesh.udp import Flow, UdpPort
from swarmd.node.network.port import Backend, PublishedPort

_SPARE_DESCRIPTORS = 256


class _Turn:
    """Who answers the next client: round robin, or by the client's address."""

    def __init__(self) -> None:
        self.port: PublishedPort | None = None
        self.served = 0
        self._allow: tuple[Prefix, ...] = ()
        self._next = 0

    def update(self, port: PublishedPort) -> None:
        self.port, self._allow = port, choice.prefixes(port.allow)

    def choose(self, client: Peer) -> tuple[Backend, ...]:
        """The backends to try, best first; none for a client that may not connect."""
        self.served += 1
        port = self.port
        if not port or not port.backends:
            return ()
        if self._allow or port.sticky:  # it takes as long as all the rest to read an address
            address = choice.address_of(client[0])
            if not choice.may_connect(address, self._allow):
                return ()
            if port.sticky:
                return choice.by_client(address, port.backends)
        self._next = (self._next + 1) % len(port.backends)
        return port.backends[self._next :] + port.backends[: self._next]

    def header(self, client: Peer, sock: Socket) -> bytes:
        """What the backend is told before the client's first byte; ``sock``: the client's."""
        if self.port is None or self.port.source != PROXIED:
            return b""
        return choice.proxy_header(client[:2], sock.getsockname()[:2])


class _Tcp:
    """One reserved TCP port, and its server while there are backends."""

    def __init__(self, key: PortKey, proxy: Proxy) -> None:
        self.turn = _Turn()
        self._relay = proxy.relay
        self._serves = False
        self._socket = sockets.reserve_tcp(key[1], key[2])

    async def update(self, port: PublishedPort) -> None:
        self.turn.update(port)
        if port.backends and not self._serves:
            sockets.reuse(self._socket, True)
            self._relay.listen(self._socket, self.turn)
            self._serves = True
        elif not port.backends and self._serves:
            self._refuse()

    def close(self) -> None:
        if self._serves:
            self._refuse()
        self._socket.close()

    def _refuse(self) -> None:
        self._serves = False
        self._relay.ignore(self._socket)
        sockets.stop_listening(self._socket)


class _Udp:
    """One reserved UDP port."""

    def __init__(self, key: PortKey, proxy: Proxy) -> None:
        self.turn = _Turn()
        self.port = UdpPort(self.turn.choose, proxy.open_flow, proxy.now)
        self._socket: socket.socket | None = sockets.reserve_udp(key[1], key[2])

    async def update(self, port: PublishedPort) -> None:
        same = self.turn.port is not None and self.turn.port.allow == port.allow
        self.turn.update(port)
        self.port.keep_only(port.backends if same else ())
        if self._socket is not None:
            mine, self._socket = self._socket, None
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: self.port, sock=mine)

    def close(self) -> None:
        self.port.close()
        if self._socket is not None:
            self._socket.close()


class Proxy:
    """All published ports of this node.  ``report`` hears of failures that have no caller."""

    def __init__(self, clock: Clock, report: Report) -> None:
        self._clock = clock
        self._nursery = Nursery(report)
        self._ports: dict[PortKey, _Tcp | _Udp] = {}
        self._taken: dict[PortKey, str] = {}
        self._waiting: dict[PortKey, PublishedPort] = {}
        most = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS) // 2
        self.relay = Relay(max(64, most), report)
        self.resets = 0

    async def update(self, changes: Mapping[PortKey, PublishedPort | None]) -> frozenset[PortKey]:
        """Serve these differently (None: no longer) and all others as before; answers those that another
        program holds.  These are tried each time, as is what was left of an update that raised OSError.

        SCTP is the kernel's alone.
        """
        wanted = {**self._waiting, **changes}
        for key, port in wanted.items():
            if port is None and (served := self._ports.pop(key, None)):
                served.close()
        self._taken = {}
        self._waiting = {key: port for key, port in wanted.items() if port and port.protocol != "sctp"}
        for key, port in tuple(self._waiting.items()):
            served = self._ports.get(key) or self._reserve(key)
            if served is None:
                continue
            if served.turn.port != port:
                self._ports[key] = served
                try:
                    await served.update(port)
                except OSError:  # no descriptors, say: the next update begins anew
                    self._ports.pop(key).close()
                    raise
            del self._waiting[key]
        return frozenset(self._taken)

    def served(self) -> dict[PortKey, int]:
        """How many TCP connections and UDP flows came to each port, since it was opened."""
        return {key: served.turn.served for key, served in self._ports.items()}

    def open_now(self) -> int:
        """How many TCP connections and UDP flows are passed on at this moment."""
        udp = (served.port.flows for served in self._ports.values() if isinstance(served, _Udp))
        return len(self.relay.links) + sum(udp)

    def taken(self) -> tuple[str, ...]:
        """A sentence for each port that another program holds."""
        return tuple(self._taken[key] for key in sorted(self._taken))

    def drop(self, node_ids: Collection[str]) -> None:
        """Reset the connections to backends on these nodes: nobody will ever answer them."""
        self.resets += self.relay.drop(node_ids)

    def expire(self) -> None:
        """Forget UDP clients that have been silent; to be called every few seconds."""
        for served in self._ports.values():
            if isinstance(served, _Udp):
                served.port.expire()

    async def close(self) -> None:
        """Give every port back and end every connection."""
        for served in self._ports.values():
            served.close()
        self._ports.clear()
        self.relay.close()
        await self._nursery.close()

    def open_flow(self, flow: Flow, client: Peer) -> None:
        self._nursery.start("proxy flow", flow.open(client))

    def now(self) -> float:
        return self._clock.monotonic()

    def _reserve(self, key: PortKey) -> _Tcp | _Udp | None:
        try:
            return _Tcp(key, self) if key[0] == "tcp" else _Udp(key, self)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = "is taken on this node by another process"
            else:
                why = f"cannot be opened on this node: {error.strerror}"
            self._taken[key] = f"{name_of(key)} {why}"
            return None
