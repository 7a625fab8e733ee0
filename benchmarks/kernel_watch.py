"""When which backend appears in, and leaves, the maps of published ports in several network namespaces.

Read from the kernel's own notifications, by one thread: nothing is asked of it, nothing waits between looks.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

import msgspec

from swarmd.node.network import wire
from swarmd.node.network.namespace import inside, open_namespace

_MAPS = frozenset({b"ep", b"ep_large"})
_NEW, _GONE = (10 << 8) | 12, (10 << 8) | 14
_ADD_MEMBERSHIP, _GROUP_NFTABLES = 1, 7
_BUFFER = 32 << 20


class Seen(msgspec.Struct, frozen=True):
    """From ``at`` (seconds since 1970) a node's map held the address, or did not any more."""

    at: float
    node: str
    address: str
    present: bool


class KernelWatch:
    """Of the IPv4 maps, while the block runs.  ``seen`` grows; a map that was there before is not known."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """``pids``: a process in each node's namespace."""
        self.seen: list[Seen] = []
        self._over = threading.Event()
        self._held: dict[str, dict[bytes, bytes]] = {node: {} for node in pids}
        self._selector = selectors.DefaultSelector()
        for node, pid in pids.items():
            self._selector.register(_listen(pid), selectors.EVENT_READ, node)
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def held(self, node: str) -> set[str]:
        """The addresses in the node's maps now."""
        return {socket.inet_ntoa(value[:4]) for value in list(self._held[node].values())}

    def first(self, node: str, address: str, since: float, *, present: bool) -> float | None:
        """When it first was so on the node, not before ``since``."""
        wanted = (node, address, present)
        times = (
            one.at for one in self.seen if (one.node, one.address, one.present) == wanted and one.at >= since
        )
        return next(times, None)

    def _follow(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.2):
                assert isinstance(key.fileobj, socket.socket)
                self._take(str(key.data), key.fileobj)

    def _take(self, node: str, sock: socket.socket) -> None:
        held = self._held[node]
        before = set(held.values())
        while True:
            try:
                data = sock.recv(1 << 20)
            except BlockingIOError:
                break
            for kind, _, _, body in wire.unpack(data):
                for key, value in _elements(body) if kind in (_NEW, _GONE) else ():
                    if kind == _NEW:
                        held[key] = value
                    elif held.get(key) == value:
                        del held[key]
        now, after = time.time(), set(held.values())
        for value in before ^ after:
            address = socket.inet_ntoa(value[:4])
            self.seen.append(Seen(now, node, address, value in after))


def _elements(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each, where the message is about one of our maps for IPv4."""
    family, said = body[0], wire.attrs(body[4:])
    if family != socket.AF_INET or said.get(2, b"").rstrip(b"\0") not in _MAPS:
        return
    data, offset = said.get(3, b""), 0
    while offset + 4 <= len(data):
        (size,) = struct.unpack_from("=H", data, offset)
        parts = wire.attrs(data[offset + 4 : offset + size])
        if 2 in parts:
            yield wire.attrs(parts[1]).get(1, b""), wire.attrs(parts[2]).get(1, b"")
        offset += (size + 3) & ~3


def _listen(pid: int) -> socket.socket:
    namespace = open_namespace(pid)
    try:
        sock = inside(namespace, lambda: wire.open_socket(wire.NETFILTER))
    finally:
        os.close(namespace)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE
    sock.setsockopt(270, _ADD_MEMBERSHIP, _GROUP_NFTABLES)  # SOL_NETLINK
    return sock
