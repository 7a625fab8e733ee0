"""Sockets inside another process's network namespace.

Entering a namespace changes the calling thread, so it never happens on the event loop's: most acts have a
thread that lives for this one act, connections are made on one that goes home after each.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import fcntl
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from swarmd.model.errors import NotFound
from swarmd.node.network import wire

_CLONE_NEWNET = 0x40000000
_SIOCGSKNS = 0x894C
T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def open_namespace(pid: int) -> int:
    """A descriptor of the process's network namespace.  Raises :class:`NotFound` when it has ended."""
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"process {pid} is not there any more; its network cannot be set up") from None


def netlink_inside(namespace: int) -> wire.Netlink:
    """A route socket that acts inside ``namespace`` (a descriptor), usable from any thread."""
    return wire.Netlink(wire.ROUTE, inside(namespace, lambda: wire.open_socket(wire.ROUTE)))


def inside(namespace: int, act: Callable[[], T]) -> T:
    """What ``act`` answers, or the OSError it raises, on a thread in ``namespace`` (a descriptor).

    Blocks.  Sockets that it opens stay there.
    """
    made: list[T] = []
    failed: list[OSError] = []

    def enter() -> None:
        try:
            if _libc.setns(namespace, _CLONE_NEWNET):
                raise wire.failure(ctypes.get_errno())
            made.append(act())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="enter-namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def namespace_of(sock: socket.socket) -> int:
    """A descriptor of the network namespace that a socket acts in."""
    return fcntl.ioctl(sock.fileno(), _SIOCGSKNS)


class Dialer:
    """Makes TCP sockets in the network namespaces of containers, all of them on one thread of its own."""

    def __init__(self) -> None:
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="namespace-dialer")

    async def socket(self, pid: int) -> socket.socket:
        """An IPv4 socket that acts where process ``pid`` is; raises NotFound when it has ended."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _socket_of, pid)

    def close(self) -> None:
        self._thread.shutdown(wait=False)


def _socket_of(pid: int) -> socket.socket:
    there = open_namespace(pid)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(there, _CLONE_NEWNET):
            raise wire.failure(ctypes.get_errno())
        try:
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        finally:
            # A thread that stayed would keep the container's network alive after its end.
            if _libc.setns(home, _CLONE_NEWNET):
                raise wire.failure(ctypes.get_errno())
    finally:
        os.close(there)
        os.close(home)
    return made
