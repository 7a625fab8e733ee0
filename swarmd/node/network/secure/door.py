"""The port that other nodes' carriers call: nobody gets as far as a handshake who is at no node's address."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection

from swarmd.kit.supervise import Nursery
from swarmd.node.network.secure.streams import HANDSHAKE_SECONDS, Stream, tune
from swarmd.rpc.admission import Admission

_BACKLOG = 256
_RETRY_SECONDS = 1.0


class Door:
    """``known``: addresses of the nodes that may call now; ``context``: of the certificate of now."""

    def __init__(
        self,
        nursery: Nursery,
        known: Callable[[], Collection[str]],
        context: Callable[[], ssl.SSLContext],
        stream: Callable[[], Stream],
    ) -> None:
        self._nursery = nursery
        self._known = known
        self._context = context
        self._stream = stream
        self._admission = Admission()
        self._place = ("", 0)
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[object] | None = None

    def open(self, address: str, port: int) -> None:
        """Listen there and nowhere else.  Raises :class:`OSError` when that cannot be."""
        if self._socket is not None and self._place == (address, port):
            return
        self.close()
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            made.listen(_BACKLOG)
        except OSError:
            made.close()
            raise
        self._socket, self._place = made, (address, port)
        self._accepting = self._nursery.start("secure port", self._accept(made))

    def close(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._accepting = None

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, (address, _) = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:  # out of descriptors: that may pass
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if address in self._known() and self._admission.enter(address):
                self._nursery.start(f"stream from {address}", self._serve(connection, address))
            else:
                connection.close()

    async def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            tune(connection)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._stream, connection, ssl=self._context(), ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except (OSError, TimeoutError):  # ssl.SSLError is one: the stranger's own fault
            connection.close()
        finally:
            self._admission.leave(address)
