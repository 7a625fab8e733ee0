"""DNS messages as bytes: read questions of stub resolvers, write the few kinds of answers we give.

Total: whatever the bytes are, nothing raises.  Small on purpose, because every name a container looks up
goes through here: a general DNS library takes fifteen times as long.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from msgspec import Struct

A, NS, CNAME, SOA, PTR, AAAA, OPT, IXFR, AXFR, ANY = 1, 2, 5, 6, 12, 28, 41, 251, 252, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

PLAIN_SIZE = 512
"""Bytes that a resolver which says nothing about sizes takes by UDP (RFC 1035)."""

LARGEST_UDP = 4096
"""Most bytes that we send by UDP, whatever the resolver says; inside a container no datagram is split."""

_OUR_SIZE = 1232
_MOST_RECORDS = 8  # besides the question; stub resolvers send one
_QR, _OPCODE, _TC, _RA = 0x8000, 0x7800, 0x0200, 0x0080
_KEPT = 0x0110  # recursion desired, checking disabled
_DO = 0x8000
_HEADER = struct.Struct("!HHHHHH")
_SHORTS = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_POINTER = b"\xc0\x0c"  # to the question's name


class Query(Struct, frozen=True, gc=False):
    """A question.  ``name``: its labels as they came, without the final zero; ``question``: the section.

    ``size``: UDP bytes the asker takes if it speaks EDNS, else 0.  ``problem``: the code to answer with when
    it cannot be dealt with.
    """

    id: int
    flags: int
    name: bytes = b""
    type: int = 0
    klass: int = IN
    question: bytes = b""
    size: int = 0
    dnssec: bool = False
    problem: int = NOERROR


def parse(data: bytes) -> Query | None:
    """The question in a datagram or frame; None for what is no question at all and gets no answer."""
    if len(data) < 12 or data[2] & 0x80:
        return None
    ident, flags, questions, answers, authorities, more = _HEADER.unpack_from(data)
    if flags & _OPCODE:
        return Query(ident, flags, problem=NOTIMP)
    end = name_end(data, 12)
    if questions != 1 or answers or authorities or more > _MOST_RECORDS or not 0 < end <= len(data) - 4:
        return Query(ident, flags, problem=FORMERR)
    kind, klass = _SHORTS.unpack_from(data, end)
    question = data[12 : end + 4]
    if not more:
        return Query(ident, flags, data[12 : end - 1], kind, klass, question)
    size, dnssec, problem = _edns(data, end + 4, more)
    return Query(ident, flags, data[12 : end - 1], kind, klass, question, size, dnssec, problem)


def name_end(data: bytes, at: int) -> int:
    """Where the plain name at ``at`` ends (after its zero); 0 when there is none."""
    start, size = at, len(data)
    while at < size:
        label = data[at]
        at += 1 + label
        if not label:
            return at if at - start <= 255 else 0
        if label > 63:
            return 0
    return 0


def skip_name(data: bytes, at: int) -> int:
    """Where the name at ``at`` ends, which may point elsewhere; 0 when there is none."""
    size = len(data)
    while at < size:
        label = data[at]
        if label >= 0xC0:
            return at + 2 if at + 2 <= size else 0
        at += 1 + label
        if not label:
            return at
        if label > 63:
            return 0
    return 0


def record_at(data: bytes, at: int) -> tuple[int, int, int, int, int] | None:
    """(type, class, TTL, start of its data, end) of the record at ``at``; None when it is cut off."""
    at = skip_name(data, at)
    if not at or at + 10 > len(data):
        return None
    kind, klass, ttl, length = _RECORD.unpack_from(data, at)
    end = at + 10 + length
    return (kind, klass, ttl, at + 10, end) if end <= len(data) else None


def _edns(data: bytes, at: int, count: int) -> tuple[int, bool, int]:
    """(size, DNSSEC wanted, problem) of what the additional records at ``at`` ask for."""
    size, dnssec = 0, False
    for _ in range(count):
        found = record_at(data, at)
        if found is None or (found[0] == OPT and size):
            return size, dnssec, FORMERR
        kind, klass, ttl, _, at = found
        if kind == OPT:
            size, dnssec = max(klass, PLAIN_SIZE), bool(ttl & _DO)
            if ttl >> 16 & 0xFF:
                return size, dnssec, BADVERS
    return size, dnssec, NOERROR


def reply(query: Query, code: int, records: Sequence[bytes] = (), *, by_udp: bool = True) -> bytes:
    """The answer with these records (made by the functions below); as many as fit, and then cut."""
    flags = _QR | _RA | (query.flags & (_KEPT | _OPCODE)) | (code & 15)
    options = b""
    if query.size:
        options = b"\0" + _RECORD.pack(OPT, _OUR_SIZE, (code >> 4) << 24 | (_DO if query.dnssec else 0), 0)
    body = b"".join(records)
    limit = udp_limit(query) if by_udp else 65535
    room = limit - 12 - len(query.question) - len(options)
    if len(body) > room:
        flags |= _TC
        records = _fitting(records, room)
        body = b"".join(records)
    header = _HEADER.pack(query.id, flags, 1 if query.question else 0, len(records), 0, 1 if options else 0)
    return header + query.question + body + options


def udp_limit(query: Query) -> int:
    """Most bytes of a datagram for who asked this."""
    return min(query.size, LARGEST_UDP) or PLAIN_SIZE


def _fitting(records: Sequence[bytes], room: int) -> Sequence[bytes]:
    for count, record in enumerate(records):
        room -= len(record)
        if room < 0:
            return records[:count]
    return records


def address_record(packed: bytes, ttl: int) -> bytes:
    """A record of the question's name with this address (4 or 16 bytes)."""
    return _POINTER + _RECORD.pack(A if len(packed) == 4 else AAAA, IN, ttl, len(packed)) + packed


def pointer_record(name: str, ttl: int) -> bytes:
    """A record that the question's address is that of ``name``, which :func:`labels` can write."""
    target = labels(name) + b"\0"
    return _POINTER + _RECORD.pack(PTR, IN, ttl, len(target)) + target


def labels(name: str) -> bytes:
    """A name's labels as in a message, without the final zero; empty when it cannot be written so."""
    parts = [part.encode(errors="replace") for part in name.split(".")]
    if not all(0 < len(part) <= 63 for part in parts):
        return b""
    encoded = b"".join(bytes((len(part),)) + part for part in parts)
    return encoded if len(encoded) < 255 else b""


def words(name: bytes) -> str:
    """The name of :func:`labels` back as text, in lower case."""
    parts, at = [], 0
    while at < len(name):
        end = at + 1 + name[at]
        parts.append(name[at + 1 : end])
        at = end
    return b".".join(parts).decode(errors="replace").lower()
