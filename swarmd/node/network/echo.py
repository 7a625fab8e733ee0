"""ICMP echo requests that nobody on the way may cut in pieces: who answers one of that size.  Calls block."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence

from swarmd.model.errors import Unavailable
from swarmd.node.network.core.pmtu import Search

_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE = 10, 3
_REQUEST, _REPLY = 8, 0
_IP_HEADER, _ICMP_HEADER = 20, 8
_BUFFER = 4 << 20

WAITS = (0.3, 0.4, 0.6)
"""Seconds to wait for an answer to the first request, the second, the third: one may be lost."""

_numbers = itertools.count(1)


class Echo:
    """A raw socket.  ``source``: the own address to ask from.  Raises :class:`Unavailable`."""

    def __init__(self, source: str, waits: Sequence[float] = WAITS) -> None:
        self._waits = waits
        self._identity = os.getpid() & 0xFFFF
        try:
            self._socket = socket.socket(
                socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP
            )
        except OSError as error:
            raise Unavailable(f"there is no raw socket for this process ({error.strerror})") from error
        try:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.bind((source, 0))
        except OSError as error:
            self._socket.close()
            raise Unavailable(f"{source} cannot be asked from ({error.strerror})") from error

    def close(self) -> None:
        """No more requests."""
        self._socket.close()

    def largest(self, targets: Iterable[str], most: int) -> dict[str, int]:
        """For each address the largest packet that came back, up to ``most`` bytes; 0: none did."""
        searches = dict.fromkeys(targets, Search(most))
        while sizes := {one: size for one, search in searches.items() if (size := search.next()) is not None}:
            answered = self.ask(sizes)
            for one, size in sizes.items():
                searches[one] = searches[one].told(size, came_back=one in answered)
        return {one: search.passes for one, search in searches.items()}

    def ask(self, sizes: Mapping[str, int]) -> set[str]:
        """Who of these answers a packet of that size (bytes, with the IP header)."""
        asked: dict[int, str] = {}
        answered: set[str] = set()
        refused: set[str] = set()
        for wait in self._waits:
            for address in sizes.keys() - answered - refused:
                number = next(_numbers) & 0xFFFF
                if self._send(address, number, sizes[address]):
                    asked[number] = address
                else:
                    refused.add(address)
            self._collect(asked, answered, time.monotonic() + wait)
            if len(answered) + len(refused) == len(sizes):
                break
        return answered

    def _send(self, address: str, number: int, size: int) -> bool:
        """False: this machine itself says that it cannot be sent, now or ever."""
        packet = request(self._identity, number, size - _IP_HEADER)
        try:
            self._socket.sendto(packet, (address, 0))
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.ENOBUFS)
        return True

    def _collect(self, asked: Mapping[int, str], answered: set[str], end: float) -> None:
        waiting = set(asked.values())
        while waiting - answered and (left := end - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return
            with contextlib.suppress(OSError):  # an ICMP error that came in is reported here
                data, (address, _) = self._socket.recvfrom(65535)
                if asked.get(reply_number(data, self._identity)) == address:
                    answered.add(address)


def request(identity: int, number: int, size: int) -> bytes:
    """An echo request of ``size`` bytes with its header."""
    body = bytes(max(0, size - _ICMP_HEADER))
    header = struct.pack("!BBHHH", _REQUEST, 0, 0, identity, number)
    return struct.pack("!BBHHH", _REQUEST, 0, checksum(header + body), identity, number) + body


def reply_number(packet: bytes, identity: int) -> int:
    """The number of an echo reply to us, as a raw socket reads it; -1 for anything else."""
    header = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < header + _ICMP_HEADER:
        return -1
    kind, _, _, whose, number = struct.unpack_from("!BBHHH", packet, header)
    return int(number) if (kind, whose) == (_REPLY, identity) else -1


def checksum(data: bytes) -> int:
    """Of the internet (RFC 1071); 0 for what has a right one in it."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)
