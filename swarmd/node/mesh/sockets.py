"""The sockets that hold a published port: bound for as long as it is published."""

from __future__ import annotations

import contextlib
import errno
import socket


def reserve_tcp(port: int, host: str) -> socket.socket:
    """A bound TCP socket that refuses connections and that nobody can bind beside.

    Addresses are reused only to get past connections in TIME_WAIT: the option is off again while the socket
    does not listen, and having listened once makes the kernel hold the port exclusively.
    """
    sock = _open(socket.SOCK_STREAM, host)
    try:
        reuse(sock, True)
        sock.bind((host or _any(sock), port))
        sock.listen(1)
        stop_listening(sock)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def reserve_udp(port: int, host: str) -> socket.socket:
    """A bound UDP socket."""
    sock = _open(socket.SOCK_DGRAM, host)
    try:
        sock.bind((host or _any(sock), port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def reuse(sock: socket.socket, on: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(on))


def stop_listening(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    reuse(sock, False)


def _open(kind: socket.SocketKind, host: str) -> socket.socket:
    """Of the family of ``host``; for all addresses one socket for both families, where there are two."""
    if host and ":" not in host:
        return socket.socket(socket.AF_INET, kind)
    try:
        sock = socket.socket(socket.AF_INET6, kind)
    except OSError as error:
        if host or error.errno != errno.EAFNOSUPPORT:
            raise
        return socket.socket(socket.AF_INET, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
    return sock


def _any(sock: socket.socket) -> str:
    return "::" if sock.family == socket.AF_INET6 else "0.0.0.0"
