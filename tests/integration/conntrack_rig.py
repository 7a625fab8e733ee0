"""Flows in a namespace's connection tracking: as many as fit, how long one is kept, and none."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from swarmd.node.network import ct, wire
from swarmd.node.network.wire import attr, be32, nest
from tests.integration.network_bed import Node, inside

_NEW = (1 << 8) | 0
_SETTLED = 0x0E  # SEEN_REPLY, ASSURED, CONFIRMED: the kernel gives none of these up for another
_MARK = 0xFA
_TIMEOUT = 7
_AT_ONCE = 512
_NOBODY = socket.inet_aton("240.1.2.3")


def number(node: Node, name: str) -> int:
    """A figure of connection tracking in the node's namespace, such as ``count`` or ``max``."""
    path = Path(f"/proc/sys/net/netfilter/nf_conntrack_{name}")
    return inside(node.namespace, lambda: int(path.read_text()))


@contextlib.contextmanager
def full(node: Node) -> Iterator[None]:
    """No flow fits in any more while the block runs: strangers have settled there, for minutes to come."""
    with contextlib.closing(inside(node.namespace, lambda: wire.open_socket(wire.NETFILTER))) as sock:
        sock.setblocking(False)
        try:
            _fill(node, sock)
            yield
        finally:
            with _asking(node) as netlink:
                ct.delete_by_mark(netlink, _MARK)


def kept_for(node: Node, port: int) -> list[int]:
    """Seconds of silence after which the node forgets each TCP flow that was opened to ``port``."""
    with _asking(node) as netlink:
        answers = netlink.ask(
            wire.Message((1 << 8) | 1, wire.F_DUMP, struct.pack("!BBH", socket.AF_INET, 0, 0))
        )
    flows = [wire.attrs(body[4:]) for _, body in answers]
    return [int.from_bytes(flow[_TIMEOUT]) for flow in flows if _opened_to(flow) == port]


def forget(node: Node) -> None:
    """What the kernel does with flows that were silent for too long; here with all of them."""
    with _asking(node) as netlink, contextlib.suppress(FileNotFoundError):
        netlink.must(wire.Message((1 << 8) | 2, 0, struct.pack("!BBH", socket.AF_INET, 0, 0)))


def _opened_to(flow: dict[int, bytes]) -> int:
    protocol = wire.attrs(wire.attrs(flow[1])[2])
    return int.from_bytes(protocol[3]) if protocol[1] == b"\x06" else -1


@contextlib.contextmanager
def _asking(node: Node) -> Iterator[wire.Netlink]:
    with contextlib.closing(inside(node.namespace, lambda: wire.Netlink(wire.NETFILTER))) as netlink:
        yield netlink


def _fill(node: Node, sock: socket.socket) -> None:
    most, template = number(node, "max"), _flow(_NOBODY)
    clients = itertools.count(int.from_bytes(socket.inet_aton("192.0.2.0")))
    for _ in range(20):  # other flows come and go meanwhile
        room = most - number(node, "count")
        if room <= 0:
            return
        for start in range(0, room, _AT_ONCE):
            some = itertools.islice(clients, min(_AT_ONCE, room - start))
            sock.send(b"".join(template.replace(_NOBODY, one.to_bytes(4)) for one in some))
            with contextlib.suppress(BlockingIOError):
                sock.recv(1 << 20)  # no room for the last ones, it says
    raise AssertionError(f"there is room for {room} more flows of {most}")


def _flow(client: bytes) -> bytes:
    """A message that makes a settled UDP flow of somebody's."""
    server, ports = socket.inet_aton("198.51.100.1"), (40_000, 9)
    body = struct.pack("!BBH", socket.AF_INET, 0, 0)
    body += _tuple(1, client, server, *ports) + _tuple(2, server, client, *reversed(ports))
    body += attr(3, be32(_SETTLED)) + attr(_TIMEOUT, be32(600)) + attr(8, be32(_MARK))
    return wire.pack(wire.Message(_NEW, wire.F_REQUEST | wire.F_CREATE, body), 1)


def _tuple(kind: int, source: bytes, target: bytes, from_port: int, to_port: int) -> bytes:
    ports = attr(2, struct.pack("!H", from_port)) + attr(3, struct.pack("!H", to_port))
    return nest(kind, nest(1, attr(1, source), attr(2, target)), nest(2, attr(1, b"\x11"), ports))
