"""The spawner's event loop: descriptors, timers and the packets of its clients.  No threads, no waiting."""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import time

from swarmd.node.runtime import wire

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Handler = Callable[["Client", tuple[Any, ...], list[int]], None]

_QUEUE = 10_000


class Loop:
    """Callbacks must cope with being called for nothing: a number may be reused within one batch."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.clients: list[Client] = []
        self._server: _socket.socket | None = None
        self._running = True

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        if fd in self._callbacks:
            self._poll.modify(fd, mask)
        else:
            self._poll.register(fd, mask)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, callback))

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        while self._running:
            due = min((when for when, _ in self._timers), default=None)
            wait = -1.0 if due is None else max(0.0, due - time.monotonic())
            for fd, events in self._poll.poll(wait):
                callback = self._callbacks.get(fd)
                if callback is not None:
                    callback(events)
            now = time.monotonic()
            ready = [entry for entry in self._timers if entry[0] <= now]
            self._timers = [entry for entry in self._timers if entry[0] > now]
            for _, callback_later in ready:
                callback_later()

    def serve(self, server: _socket.socket, handler: Handler) -> None:
        """Accept clients of our own user; ``handler`` gets their packets."""

        def accept(_: int) -> None:
            try:
                fd = server._accept()[0]  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            connection = _socket.socket(fileno=fd)
            connection.setblocking(False)
            if wire.peer_uid(connection) != os.geteuid():
                connection.close()
                return
            self.clients.append(Client(self, connection, handler))

        self._server = server
        self.watch(server.fileno(), select.EPOLLIN, accept)

    def state(self) -> dict[str, Any]:
        """For a successor: where new clients come in, and those that are here."""
        assert self._server is not None
        return {"server": self._server.fileno(), "clients": [client.state() for client in self.clients]}

    def descriptors(self) -> list[int]:
        assert self._server is not None
        return [self._server.fileno(), *(fd for client in self.clients for fd in client.descriptors())]

    def place(self, client: Client) -> int:
        """Where it stands among the clients; -1 if it has gone."""
        return self.clients.index(client) if client in self.clients else -1

    def restore(self, state: dict[str, Any], handler: Handler) -> None:
        for fd, subscribed, queue in state["clients"]:
            connection = _socket.socket(fileno=fd)
            connection.setblocking(False)
            client = Client(self, connection, handler)
            client.subscribed = subscribed
            client.resume(queue)
            self.clients.append(client)
        server = _socket.socket(fileno=state["server"])
        server.setblocking(False)
        self.serve(server, handler)

    def broadcast(self, *message: Any) -> None:
        for client in list(self.clients):
            if client.subscribed:
                client.send(*message)

    def gone(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)


class Client:
    """One connection.  ``closed`` is called once when it ends."""

    def __init__(self, loop: Loop, connection: _socket.socket, handler: Handler) -> None:
        self._loop = loop
        self._connection = connection
        self._handler = handler
        self._queue: list[tuple[bytes, tuple[int, ...]]] = []
        self.subscribed = False
        self.closed: Callable[[], None] = lambda: None
        self.open = True
        loop.watch(connection.fileno(), select.EPOLLIN, self._happened)

    def send(self, *message: Any, fds: tuple[int, ...] = ()) -> None:
        """Send, or queue while the peer does not keep up.  The caller keeps its descriptors."""
        if not self.open:
            return
        packet = wire.encode(*message)
        if self._queue:
            self._enqueue(packet, fds)
            return
        try:
            wire.send(self._connection, packet, fds)
        except BlockingIOError:
            self._enqueue(packet, fds)
        except OSError:
            self.close()

    def fileno(self) -> int:
        return self._connection.fileno()

    def descriptors(self) -> list[int]:
        return [self.fileno(), *(fd for _, fds in self._queue for fd in fds)]

    def state(self) -> tuple[int, bool, list[tuple[bytes, tuple[int, ...]]]]:
        return (self.fileno(), self.subscribed, self._queue)

    def resume(self, queue: list[tuple[bytes, tuple[int, ...]]]) -> None:
        for packet, fds in queue:
            self._enqueue(packet, fds)
            for fd in fds:
                os.close(fd)

    def _enqueue(self, packet: bytes, fds: tuple[int, ...]) -> None:
        self._queue.append((packet, tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0) for fd in fds)))
        if len(self._queue) > _QUEUE:  # it will connect again and ask for the list
            self.close()
            return
        self._loop.watch(self._connection.fileno(), select.EPOLLIN | select.EPOLLOUT, self._happened)

    def _happened(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if self.open and events & ~select.EPOLLOUT:
            self._receive()

    def _flush(self) -> None:
        try:
            while self._queue:
                wire.send(self._connection, *self._queue[0])
                self._close_queued(1)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._loop.watch(self._connection.fileno(), select.EPOLLIN, self._happened)

    def _close_queued(self, count: int) -> None:
        for _, fds in self._queue[:count]:
            for fd in fds:
                os.close(fd)
        del self._queue[:count]

    def _receive(self) -> None:
        try:
            message, fds = wire.receive(self._connection)
        except BlockingIOError:
            return
        except Exception:  # noqa: BLE001 - whatever a stranger's bytes do to marshal
            self.close()
            return
        self._handler(self, message, fds)

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.forget(self._connection.fileno())
            self._loop.gone(self)
            self._connection.close()
            self._close_queued(len(self._queue))
            self.closed()
