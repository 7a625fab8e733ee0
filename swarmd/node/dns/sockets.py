"""Opens the two sockets of a container's name service, inside its network namespace."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from msgspec import Struct

from swarmd.node.dns import redirect
from swarmd.node.network import namespace

PORT = 61053
"""Where we listen: above what the kernel gives to outgoing connections, so that only who wants this very
port on all addresses finds it taken."""

_BACKLOG = 64
_RECEIVE_BYTES = 1 << 20


class Sockets(Struct, frozen=True):
    """A UDP socket and a listening TCP socket, neither of them blocking."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


def open_for(pid: int) -> Sockets:
    """The sockets of the process's container; blocks for a fraction of a millisecond.

    Raises NotFound when the process has ended, OSError when its namespace has no room for us.
    """
    there = namespace.open_namespace(pid)
    try:
        return namespace.inside(there, _open)
    finally:
        os.close(there)


def open_towards(sock: socket.socket, kind: socket.SocketKind, address: str) -> socket.socket:
    """A socket of this kind for ``address`` in the namespace where ``sock`` acts.  Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, "the container has ended")
    there = namespace.namespace_of(sock)
    try:
        return namespace.inside(there, lambda: socket.socket(family, kind | socket.SOCK_NONBLOCK))
    finally:
        os.close(there)


def mended(opened: Sockets) -> bool:
    """Lead port 53 to us again; answers whether somebody had taken the rules away.  Raises OSError."""
    udp, tcp = (sock.getsockname()[1] for sock in (opened.udp, opened.tcp))
    if udp == redirect.DNS_PORT:
        return False
    there = namespace.namespace_of(opened.udp)
    try:
        if namespace.inside(there, redirect.is_there):
            return False
        namespace.inside(there, lambda: redirect.install(udp, tcp))
        return True
    finally:
        os.close(there)


def _open() -> Sockets:
    """On a high port with rules that lead there; where there can be no rules, on port 53 itself."""
    with contextlib.ExitStack() as on_error:
        udp, tcp = _bound(PORT, on_error)
        try:
            redirect.install(udp.getsockname()[1], tcp.getsockname()[1])
        except OSError:
            on_error.close()
            udp, tcp = _bound(redirect.DNS_PORT, on_error, strict=True)
        on_error.pop_all()
        return Sockets(udp, tcp)


def _bound(
    port: int, on_error: contextlib.ExitStack, *, strict: bool = False
) -> tuple[socket.socket, socket.socket]:
    udp = on_error.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
    tcp = on_error.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(PermissionError):
        udp.setsockopt(socket.SOL_SOCKET, 33, _RECEIVE_BYTES)  # SO_RCVBUFFORCE
    for sock in (udp, tcp):
        _bind(sock, port, strict=strict)
    tcp.listen(_BACKLOG)
    return udp, tcp


def _bind(sock: socket.socket, port: int, *, strict: bool) -> None:
    try:
        sock.bind((redirect.ADDRESS, port))
    except OSError:
        if strict:
            raise
        sock.bind((redirect.ADDRESS, 0))
