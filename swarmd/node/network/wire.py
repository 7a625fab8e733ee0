"""Netlink framing: attributes, headers and one blocking socket.  Knows no message's meaning.

Calls block for the time the kernel takes (well under a millisecond for a handful of messages); shells call
them from a worker thread.  A socket stays in the network namespace it was opened in.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence

ROUTE = 0
NETFILTER = 12

F_REQUEST = 0x01
F_ACK = 0x04
F_DUMP = 0x300
F_REPLACE = 0x100
F_EXCL = 0x200
F_CREATE = 0x400

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")
_ERROR = 2
_DONE = 3
NESTED = 0x8000
_SEND_BUFFER = 64 << 20
_TIMEOUT_SECONDS = 20


class Message(tuple[int, int, bytes]):
    """(type, flags, body): a request before it has a sequence number."""

    __slots__ = ()

    def __new__(cls, kind: int, flags: int, body: bytes) -> Message:
        return super().__new__(cls, (kind, flags, body))


def attr(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    size = 4 + len(value)
    return _ATTR.pack(size, kind) + value + b"\0" * (-size % 4)


def nest(kind: int, *attrs: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attr(kind | NESTED, b"".join(attrs))


def u32(value: int) -> bytes:
    """A number in the machine's own order."""
    return struct.pack("=I", value)


def be32(value: int) -> bytes:
    """A number in network order."""
    return struct.pack("!I", value)


def text(value: str) -> bytes:
    """A zero-terminated string."""
    return value.encode() + b"\0"


def attrs(data: bytes) -> dict[int, bytes]:
    """The attributes in ``data`` by kind; of a repeated kind the last one."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        size, kind = _ATTR.unpack_from(data, offset)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def pack(message: Message, sequence: int) -> bytes:
    """The message as it goes over the socket."""
    kind, flags, body = message
    return _HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body + b"\0" * (-len(body) % 4)


def unpack(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each message in one datagram."""
    offset = 0
    while offset + 16 <= len(data):
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if size < 16:
            return
        yield kind, flags, sequence, data[offset + 16 : offset + size]
        offset += (size + 3) & ~3


def error_of(body: bytes) -> int:
    """The errno of an error message; 0 is an acknowledgement."""
    number: int = struct.unpack_from("=i", body)[0]
    return -number


def failure(number: int) -> OSError:
    """The exception Python itself would raise for this errno."""
    return OSError(number, os.strerror(number))


class Netlink:
    """One blocking netlink socket.  Safe to share between threads: one exchange at a time."""

    def __init__(self, protocol: int, sock: socket.socket | None = None) -> None:
        self._lock = threading.Lock()
        self._sequence = 0
        self._socket = sock or open_socket(protocol)

    def close(self) -> None:
        self._socket.close()

    def each(self, messages: Sequence[Message], *, at_once: int = 128) -> list[int]:
        """Send messages that the kernel handles one by one; answers an errno (0: done) for each."""
        with self._lock:
            results: list[int] = []
            for start in range(0, len(messages), at_once):
                results += self._each(messages[start : start + at_once])
            return results

    def _each(self, messages: Sequence[Message]) -> list[int]:
        first = self._reserve(len(messages))
        flagged = (Message(m[0], m[1] | F_REQUEST | F_ACK, m[2]) for m in messages)
        self._socket.send(b"".join(pack(m, first + i) for i, m in enumerate(flagged)))
        results = [0] * len(messages)
        waiting = set(range(len(messages)))
        while waiting:
            for kind, _, sequence, body in self._receive():
                if kind == _ERROR and sequence - first in waiting:
                    results[sequence - first] = error_of(body)
                    waiting.discard(sequence - first)
        return results

    def must(self, *messages: Message, allow: tuple[int, ...] = ()) -> None:
        """As :meth:`each`, but the first errno that is not in ``allow`` is raised as :class:`OSError`."""
        for number in self.each(messages):
            if number and number not in allow:
                raise failure(number)

    def transaction(self, begin: Message, messages: Sequence[Message], end: Message) -> None:
        """Send all messages as one batch that happens entirely or not at all (nfnetlink)."""
        with self._lock:
            last = len(messages)
            numbered = [begin, *messages, end]
            numbered[last] = Message(messages[-1][0], messages[-1][1] | F_ACK, messages[-1][2])
            first = self._reserve(len(numbered))
            self._socket.send(
                b"".join(
                    pack(Message(m[0], m[1] | F_REQUEST, m[2]), first + i) for i, m in enumerate(numbered)
                )
            )
            self._settle(first, first + last)

    def _settle(self, first: int, last: int) -> None:
        wrong = 0
        while True:
            for kind, _, sequence, body in self._receive():
                if kind != _ERROR or not first <= sequence <= last:
                    continue
                wrong = wrong or error_of(body)
                if sequence == last or (sequence == first and wrong):
                    if wrong:
                        raise failure(wrong)
                    return

    def ask(self, message: Message) -> list[tuple[int, bytes]]:
        """Send one question, with F_DUMP or for one object; answers (type, body) of each reply."""
        with self._lock:
            first = self._reserve(1)
            dump = message[1] & F_DUMP == F_DUMP
            flags = message[1] | F_REQUEST | (0 if dump else F_ACK)
            self._socket.send(pack(Message(message[0], flags, message[2]), first))
            found: list[tuple[int, bytes]] = []
            while True:
                for kind, _, sequence, body in self._receive():
                    if sequence != first:
                        continue
                    if kind == _DONE:
                        return found
                    if kind == _ERROR:
                        if error_of(body):
                            raise failure(error_of(body))
                        return found
                    found.append((kind, body))

    def _reserve(self, count: int) -> int:
        first = self._sequence + 1
        self._sequence += count
        return first

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        return unpack(self._socket.recv(1 << 20))


def open_socket(protocol: int) -> socket.socket:
    """A netlink socket in the calling thread's network namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    sock.settimeout(_TIMEOUT_SECONDS)
    for option, size in ((32, _SEND_BUFFER), (33, 8 << 20)):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, size)
        except PermissionError:
            continue
    sock.bind((0, 0))
    return sock
