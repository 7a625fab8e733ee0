"""DNS messages made and read by other hands than the product's, for its tests."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import msgspec

TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "AAAA": 28, "OPT": 41, "AXFR": 252, "ANY": 255}
NAMES = {number: name for name, number in TYPES.items()}
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}


class Answer(msgspec.Struct, frozen=True):
    """A message as read: ``records`` are (name, type, TTL, value); ``edns`` the size in it, 0 without."""

    id: int
    code: str
    question: tuple[str, str]
    records: tuple[tuple[str, str, int, str], ...]
    cut: bool
    edns: int
    recursion: tuple[bool, bool]

    @property
    def values(self) -> list[str]:
        return [value for _, _, _, value in self.records]


def ask(
    name: str, kind: str = "A", *, ident: int = 4711, size: int = 0, klass: int = 1, version: int = 0
) -> bytes:
    """A question as a stub resolver writes it; with EDNS if ``size``."""
    flags = 0x0100
    header = struct.pack("!6H", ident, flags, 1, 0, 0, 1 if size else 0)
    options = struct.pack("!BHHIH", 0, 41, size, version << 16, 0) if size else b""
    return header + encoded(name) + struct.pack("!HH", TYPES[kind], klass) + options


def encoded(name: str) -> bytes:
    parts = [part.encode() for part in name.rstrip(".").split(".") if part]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def read(message: bytes) -> Answer:
    """Any message, wholly: raises when a byte is left over or missing."""
    ident, flags, questions, answers, authorities, more = struct.unpack_from("!6H", message)
    at = 12
    question = ("", "")
    for _ in range(questions):
        name, at = _name(message, at)
        kind, _ = struct.unpack_from("!HH", message, at)
        question, at = (name, NAMES.get(kind, str(kind))), at + 4
    records: list[tuple[str, str, int, str]] = []
    edns, code = 0, flags & 15
    for _ in range(answers + authorities + more):
        name, at = _name(message, at)
        kind, klass, ttl, length = struct.unpack_from("!HHIH", message, at)
        at += 10
        data, start, at = message[at : at + length], at, at + length
        assert len(data) == length
        if kind == 41:
            edns, code = klass, code | (ttl >> 24) << 4
        elif kind in (1, 28):
            records.append((name, NAMES[kind], ttl, str(ip_address(data))))
        elif kind == 12:
            records.append((name, "PTR", ttl, _name(message, start)[0]))
        else:
            records.append((name, NAMES.get(kind, str(kind)), ttl, data.hex()))
    assert at == len(message)
    recursion = (bool(flags & 0x100), bool(flags & 0x80))
    return Answer(ident, CODES[code], question, tuple(records), bool(flags & 0x200), edns, recursion)


def reply(
    question: bytes,
    *records: tuple[str, int, str],
    code: int = 0,
    missing: int | None = None,
    cut: bool = False,
) -> bytes:
    """A server's reply to ``question`` with records (type, TTL, address); ``missing``: TTL of a SOA."""
    ident, asked = question[:2], question[12 : question.index(b"\0", 12) + 5]
    made = b""
    for kind, ttl, value in records:
        family = socket.AF_INET if kind == "A" else socket.AF_INET6
        data = socket.inet_pton(family, value)
        made += b"\xc0\x0c" + struct.pack("!HHIH", TYPES[kind], 1, ttl, len(data)) + data
    if missing is not None:
        data = encoded("ns.example") + encoded("root.example") + struct.pack("!5I", 1, 2, 3, 4, missing)
        made += encoded("example") + struct.pack("!HHIH", 6, 1, 3600, len(data)) + data
    counts = struct.pack("!4H", 1, len(records), 0 if missing is None else 1, 0)
    return ident + struct.pack("!H", 0x8180 | code | (0x200 if cut else 0)) + counts + asked + made


def _name(message: bytes, at: int) -> tuple[str, int]:
    parts: list[str] = []
    end = 0
    while label := message[at]:
        if label >= 0xC0:
            end = end or at + 2
            at = struct.unpack_from("!H", message, at)[0] & 0x3FFF
            continue
        parts.append(message[at + 1 : at + 1 + label].decode())
        at += 1 + label
    return ".".join(parts), end or at + 1
