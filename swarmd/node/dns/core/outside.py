"""Decide about questions for others: whom to ask, how, whether a reply is theirs, how long it holds."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from msgspec import Struct

from swarmd.node.dns.core import wire
from swarmd.node.dns.core.wire import Query

LONGEST = 300
"""Most seconds a reply is remembered."""

LONGEST_MISSING = 30
"""Most seconds it is remembered that a name does not exist."""

_LONGEST_KEPT = 4096
"""Bytes of a reply that is remembered; thousands are, and a container chooses what it asks for."""

_MOST_SERVERS = 3  # as glibc
_FLAGS = 0x0130  # recursion desired, authentic data, checking disabled
_SIZE = 1232
_HEADER = struct.Struct("!HHHHHH")
_TTL = struct.Struct("!I")


class Reply(Struct, frozen=True):
    """A reply that may be given again: the message, where in it are TTLs, and for how many seconds."""

    message: bytes
    ttls: tuple[int, ...]
    seconds: int


def name_servers(resolv_conf: str) -> tuple[str, ...]:
    """The addresses of name servers in a resolv.conf, at most three."""
    lines = (line.split() for line in resolv_conf.splitlines())
    return addresses(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")[
        :_MOST_SERVERS
    ]


def addresses(servers: Iterable[str]) -> tuple[str, ...]:
    """Those that are addresses: names of name servers would have to be asked of somebody first."""
    return tuple(server for server in servers if _is_address(server))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def question(query: Query, ident: int) -> bytes:
    """What to ask, in our own words: nothing of the asker's message but name, type, class and wishes."""
    options = (
        struct.pack("!BHHIH", 0, wire.OPT, _SIZE, 0x8000 if query.dnssec else 0, 0) if query.size else b""
    )
    flags = query.flags & _FLAGS
    return _HEADER.pack(ident, flags, 1, 0, 0, 1 if options else 0) + query.question + options


def key(query: Query) -> bytes:
    """The same for questions that have the same replies."""
    flags = (query.flags & _FLAGS) | (1 if query.size else 0) | (2 if query.dnssec else 0)
    return flags.to_bytes(2, "big") + query.question.lower()


def answers(query: Query, ident: int, message: bytes) -> bool:
    """Whether this is a reply to what was asked with ``ident``."""
    if len(message) < 12 + len(query.question):
        return False
    got, flags, questions, *_ = _HEADER.unpack_from(message)
    asked = message[12 : 12 + len(query.question)]
    return (
        got == ident and bool(flags & 0x8000) and questions == 1 and asked.lower() == query.question.lower()
    )


def is_cut(message: bytes) -> bool:
    """Whether a reply says that there is more of it by TCP."""
    return bool(message[2] & 0x02)


def is_useful(message: bytes) -> bool:
    """Whether a reply says something about the name, and not that this server cannot."""
    return message[3] & 15 in (wire.NOERROR, wire.NXDOMAIN)


def addressed(message: bytes, query: Query) -> bytes:
    """A reply made out to who asked: with its number and its spelling of the name."""
    return query.id.to_bytes(2, "big") + message[2:12] + query.question + message[12 + len(query.question) :]


def shortened(message: bytes, query: Query) -> bytes:
    """The reply, or that it is too long, for who asked by UDP."""
    if len(message) <= wire.udp_limit(query):
        return message
    header = message[:2] + bytes((message[2] | 0x02, message[3])) + b"\0\1\0\0\0\0\0\0"
    return header + query.question


def remembered(message: bytes) -> Reply | None:
    """The reply as it may be given again; None when it may not (RFC 1035, RFC 2308)."""
    code = message[3] & 15
    if len(message) > _LONGEST_KEPT or is_cut(message) or code not in (wire.NOERROR, wire.NXDOMAIN):
        return None
    found = _records(message)
    if found is None:
        return None
    seconds, at = [], []
    missing = code == wire.NXDOMAIN or not int.from_bytes(message[6:8], "big")
    for kind, ttl, ttl_at, end in found:
        if kind == wire.OPT:
            continue
        at.append(ttl_at)
        seconds.append(ttl)
        if kind == wire.SOA and missing:  # its last number
            seconds.append(_TTL.unpack_from(message, end - 4)[0])
    if missing and not any(kind == wire.SOA for kind, *_ in found):
        return None
    limit = LONGEST_MISSING if missing else LONGEST
    lasts = min(*seconds, limit) if seconds else 0
    return Reply(message, tuple(at), lasts) if lasts > 0 else None


def aged(reply: Reply, seconds: int) -> bytes:
    """The message after so many seconds."""
    message = bytearray(reply.message)
    for at in reply.ttls:
        _TTL.pack_into(message, at, max(0, _TTL.unpack_from(message, at)[0] - seconds))
    return bytes(message)


def _records(message: bytes) -> list[tuple[int, int, int, int]] | None:
    """(type, TTL, where the TTL is, end) of all records; None when they cannot be read."""
    at = wire.name_end(message, 12) + 4
    found = list(_walk(message, at, sum(struct.unpack_from("!HHH", message, 6))))
    return None if None in found else [each for each in found if each is not None]


def _walk(message: bytes, at: int, count: int) -> Iterator[tuple[int, int, int, int] | None]:
    for _ in range(count):
        found = wire.record_at(message, at)
        if found is None:
            yield None
            return
        kind, _, ttl, start, at = found
        yield kind, ttl, start - 6, at
