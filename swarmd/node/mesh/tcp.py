"""Runs the TCP connections of all published ports: no task, no timer and no transport for each, but one set
of sockets (epoll), which is itself one file of the event loop.

accept ──► read what is there ──► connect ──► write ──► wait for edges of either end ──► read, write
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import takewhile
from typing import Protocol

from swarmd.kit.supervise import Report, failure
from swarmd.node.mesh.core.choice import Peer
from swarmd.node.mesh.link import End, Link, Socket, keep_alive
from swarmd.node.network.port import Backend

CONNECT_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_SOON_SECONDS = 0.05
_MOST_EVENTS = 128
_MOST_ACCEPTS = 64
_BACKLOG = 1024
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Turn(Protocol):
    """Says for one port who answers."""

    def choose(self, client: Peer) -> tuple[Backend, ...]:
        """The backends to try for a client, best first."""
        ...

    def header(self, client: Peer, sock: Socket) -> bytes:
        """What a backend is told before the client's first byte; ``sock``: the client's."""
        ...


class Relay:
    """``most``: connections at a time; more are reset as they come.

    What fails in one connection, whatever it is, ends that one and is told to ``report``: edges are told
    once, so the others must hear of theirs all the same.
    """

    def __init__(self, most: int, report: Report) -> None:
        self._most = most
        self._report = report
        self._links: set[Link] = set()
        self._epoll: select.epoll | None = None
        self._doors: dict[int, Callable[[], None]] = {}
        self._ends: dict[int, End] = {}
        self._served: Link | None = None
        self._paused: dict[int, asyncio.TimerHandle] = {}
        self._again: list[End] = []
        self._in_turn = False
        self._leaving: list[Socket] = []
        self._waiting: dict[Link, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def links(self) -> Collection[Link]:
        return self._links

    def listen(self, sock: socket.socket, turn: Turn) -> None:
        """Serve the clients of a bound socket."""
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._turn)
        keep_alive(sock)
        sock.listen(_BACKLOG)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._doors[sock.fileno()] = partial(self._accept, sock, int(sock.family), turn)

    def ignore(self, sock: socket.socket) -> None:
        """Take no more clients of a socket; those that are there stay."""
        number = sock.fileno()
        del self._doors[number]
        paused = self._paused.pop(number, None)
        if paused is not None:
            paused.cancel()
        elif self._epoll is not None:
            self._epoll.unregister(number)

    def drop(self, node_ids: Collection[str]) -> int:
        """Reset the connections to backends on these nodes, say how many; who waits gets another."""
        links = [link for link in self._links if link.backend and link.backend.node_id in node_ids]
        for link in links:
            self._netted(link, link.lost)
        return sum(not link.is_open for link in links)

    def close(self) -> None:
        """End every connection."""
        for link in list(self._links):
            self._netted(link, link.cut)
        if self._timer is not None:
            self._timer.cancel()
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    # -- for links -------------------------------------------------------------------------------

    def watch(self, end: End, mask: int) -> None:
        assert self._epoll is not None
        if end.watched:
            self._epoll.modify(end.number, mask)
        else:
            self._ends[end.number] = end
            self._epoll.register(end.number, mask)
        end.watched = mask

    def again(self, end: End) -> None:
        self._again.append(end)

    def dispose(self, end: End) -> None:
        if end.gone:
            return
        end.gone = end.ended = True
        self._ends.pop(end.number, None)
        if self._in_turn:
            self._leaving.append(end.sock)  # its number is in what the kernel has just told
        else:
            end.sock.close()

    def waits(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        self._waiting.pop(link, None)  # so that the first is always the one that waits longest
        self._waiting[link] = loop.time() + CONNECT_SECONDS
        if self._timer is None:
            self._timer = loop.call_later(CONNECT_SECONDS, self._late)

    def reached(self, link: Link) -> None:
        self._waiting.pop(link, None)

    def gone(self, link: Link) -> None:
        self._links.discard(link)
        self._waiting.pop(link, None)

    # -- what the loop calls ---------------------------------------------------------------------

    def _turn(self) -> None:
        if self._epoll is None:
            return
        again, self._again = self._again, []
        self._in_turn = True
        try:
            for end in again:
                self._netted(end.link, end.pump)
            told = iter(self._epoll.poll(0, _MOST_EVENTS))
            while (error := failure(partial(self._tell, told))) is not None:
                self._give_up(self._served, error)
        finally:
            self._in_turn = False
            self._served = None
            for sock in self._leaving:
                sock.close()
            self._leaving.clear()
            if self._again:
                asyncio.get_running_loop().call_soon(self._turn)

    def _tell(self, told: Iterator[tuple[int, int]]) -> None:
        """What is left of the kernel's news.  A net around each piece would cost all connections."""
        ends, doors = self._ends, self._doors
        for number, mask in told:
            end = ends.get(number)
            if end is not None:
                self._served = end.link
                end.ready(mask)
            elif number in doors:
                doors[number]()

    def _netted(self, link: Link, act: Callable[[], None]) -> None:
        error = failure(act)
        if error is not None:
            self._give_up(link, error)

    def _give_up(self, link: Link | None, error: Exception) -> None:
        if link is not None:
            link.cut()
        self._report("proxy connection", error)

    def _accept(self, listener: socket.socket, family: int, turn: Turn) -> None:
        for _ in range(_MOST_ACCEPTS):
            self._served = None
            try:
                number, client = listener._accept()  # type: ignore[attr-defined]  # see Socket
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _FULL:
                    self._pause(listener)
                    return
                continue  # it had gone before it came
            sock = Socket(family, socket.SOCK_STREAM, 0, number)
            self._served = link = Link(self, sock)
            if len(self._links) < self._most:
                link.backends = turn.choose(client)
            self._links.add(link)
            link.start(turn.header(client, sock))

    def _pause(self, listener: socket.socket) -> None:
        """There are no descriptors.  The kernel would say again and again that somebody is waiting."""
        assert self._epoll is not None
        number = listener.fileno()
        self._epoll.unregister(number)
        self._paused[number] = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._resume, number)

    def _resume(self, number: int) -> None:
        assert self._epoll is not None
        try:
            self._epoll.register(number, select.EPOLLIN)
        except OSError:  # no memory either
            self._paused[number] = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._resume, number)
        else:
            del self._paused[number]

    def _late(self) -> None:
        """One timer for all, due when the one that waits longest has waited long enough."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for link, _ in list(takewhile(lambda waiting: waiting[1] <= now, self._waiting.items())):
            del self._waiting[link]
            self._netted(link, link.late)
        if self._waiting and self._timer is None:
            due = next(iter(self._waiting.values()))
            self._timer = loop.call_later(max(due - now, _SOON_SECONDS), self._late)
