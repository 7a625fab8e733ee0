"""TLS clients that have not shown yet that they are: so many at a time, and so many from one address."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from swarmd.node.router.client import Launch
from swarmd.rpc.admission import Admission

SECONDS = 10.0
_RETRY_SECONDS = 1.0
_FEW = 24


class Handshakes:
    """Those of one port.  ``protocol``: makes what a client gets once it has shaken hands."""

    def __init__(
        self, launch: Launch, context: ssl.SSLContext, protocol: Callable[[], asyncio.Protocol], most: int
    ) -> None:
        self._launch = launch
        self._context = context
        self._protocol = protocol
        # A proxy before the swarm has one address and many clients: a quarter is not little.
        self._admission = Admission(most, max(_FEW, most // 4))
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[object]] = set()

    def open(self, listener: socket.socket) -> None:
        """Take the clients of a listening socket, which is closed with this."""
        self._sockets.append(listener)
        self._start("router port", self._accept(listener))

    def close(self) -> None:
        """Take no more; who has not shaken hands yet is cut off."""
        for task in self._tasks:
            task.cancel()
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, (address, *_) = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:  # out of descriptors: that may pass
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if self._admission.enter(address):
                self._start("router handshake", self._shake(sock, address))
            else:
                sock.close()

    async def _shake(self, sock: socket.socket, address: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, sock, ssl=self._context, ssl_handshake_timeout=SECONDS
            )
        except (OSError, TimeoutError):  # ssl.SSLError is one: the client's own fault
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise
        finally:
            self._admission.leave(address)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._launch(name, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
