"""What nftables has, read by netlink: its generation, a set's elements, a fingerprint of a table's rules.

The elements of a large set come as one block of equal records, which is taken apart in one go: 60,000 of
them in a few hundredths of a second.  Calls block; the caller sees to it that we write nothing meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import struct
import sys
from collections.abc import Iterator

from swarmd.node.network import wire
from swarmd.node.network.core.family import IP6, Family
from swarmd.node.network.wire import F_DUMP, Message, Netlink, attr, nest, text

Elements = dict[bytes, bytes | None]

_SUBSYSTEM = 10 << 8
_GETRULE, _GETELEMENT, _GETGENERATION = 7, 13, 16
_SET_TABLE, _SET_NAME, _SET_ELEMENTS = 1, 2, 3
_KEY, _DATA, _FLAGS, _EXPRESSION, _KEY_END = 1, 2, 3, 7, 10
_INTERVAL_END = 1
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_NAME, _BODY = 1, 2
_COUNTER_PACKETS = 2
_ELEMENT_HEAD = 12
"""Headers of an element, of its key, and of that one's value."""
_COUNTS = frozenset({b"counter\0", b"quota\0", b"last\0"})
"""Expressions whose state changes with every packet."""


def _header(family: Family | None) -> bytes:
    number = 0 if family is None else socket.AF_INET6 if family == IP6 else socket.AF_INET
    return struct.pack("!BBH", number, 0, 0)


def generation(netlink: Netlink) -> int:
    """A number that every change of the ruleset, by whomever, raises by one."""
    replies = netlink.ask(Message(_SUBSYSTEM | _GETGENERATION, 0, _header(None)))
    number: int = struct.unpack("!I", wire.attrs(replies[0][1][4:])[1])[0]
    return number


def elements(netlink: Netlink, family: Family, table: str, name: str) -> Elements | None:
    """Encoded key → encoded value, as they are written; of an interval (first, address after the last).

    None: there is no such set.
    """
    body = _header(family) + attr(_SET_TABLE, text(table)) + attr(_SET_NAME, text(name))
    try:
        replies = netlink.ask(Message(_SUBSYSTEM | _GETELEMENT, F_DUMP, body))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    found: Elements = {}
    ends: list[bytes] = []
    for _, reply in replies:
        block = wire.attrs(reply[4:]).get(_SET_ELEMENTS, b"")
        if not _uniform(block, found):
            _one_by_one(block, found, ends)
    if not ends:
        return found
    # The kernel keeps the two ends of an interval apart; the intervals of one set never overlap.
    return {first + last: found[first] for first, last in zip(sorted(found), sorted(ends), strict=False)}


def element(netlink: Netlink, family: Family, table: str, name: str, key: bytes) -> Elements:
    """The element with this key alone, of a set without intervals; empty when it has none."""
    wanted = nest(_SET_ELEMENTS, nest(1, nest(_KEY, attr(1, key))))
    body = _header(family) + attr(_SET_TABLE, text(table)) + attr(_SET_NAME, text(name)) + wanted
    found: Elements = {}
    try:
        replies = netlink.ask(Message(_SUBSYSTEM | _GETELEMENT, 0, body))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return found
        raise
    for _, reply in replies:
        _one_by_one(wire.attrs(reply[4:]).get(_SET_ELEMENTS, b""), found, [])
    return found


def counts(netlink: Netlink, family: Family, table: str, name: str) -> dict[bytes, int]:
    """Encoded key → packets, of a set whose elements count; empty when there is no such set."""
    body = _header(family) + attr(_SET_TABLE, text(table)) + attr(_SET_NAME, text(name))
    try:
        replies = netlink.ask(Message(_SUBSYSTEM | _GETELEMENT, F_DUMP, body))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return {}
        raise
    found: dict[bytes, int] = {}
    for _, reply in replies:
        block = wire.attrs(reply[4:]).get(_SET_ELEMENTS, b"")
        if not _counted_alike(block, found):
            found.update(_counted(one) for one in _each(block))
    return found


def _counted(element: bytes) -> tuple[bytes, int]:
    parts = wire.attrs(element)
    counter = wire.attrs(wire.attrs(parts.get(_EXPRESSION, b"")).get(_BODY, b""))
    return _value(parts[_KEY]), int.from_bytes(counter.get(_COUNTER_PACKETS, b""), "big")


def _counted_alike(block: bytes, found: dict[bytes, int]) -> bool:
    """Take a block apart whose elements have all the same layout: a key first, and packets somewhere."""
    if len(block) < _ELEMENT_HEAD:
        return True
    size = int.from_bytes(block[:2], sys.byteorder)
    key = _value(wire.attrs(block[4:size]).get(_KEY, b""))
    place = _place(block[:size], (_EXPRESSION, _BODY, _COUNTER_PACKETS))
    if not size or len(block) % size or not key or not place or block[_ELEMENT_HEAD:][: len(key)] != key:
        return False
    layout = f"!{_ELEMENT_HEAD}s{len(key)}s{place - _ELEMENT_HEAD - len(key)}sQ{size - place - 8}x"
    read = list(struct.iter_unpack(layout, block))
    if any(one[0] != read[0][0] or one[2][-4:] != read[0][2][-4:] for one in read):
        return False
    found.update((one[1], one[3]) for one in read)
    return True


def _place(element: bytes, path: tuple[int, ...]) -> int:
    """Where in an element's attribute the value of a nested one begins; 0: nowhere."""
    begin, end = 4, len(element)
    for wanted in path:
        while begin + 4 <= end:
            size, kind = struct.unpack_from("=HH", element, begin)
            if kind & 0x3FFF == wanted:
                begin, end = begin + 4, begin + size
                break
            begin += (max(size, 4) + 3) & ~3
        else:
            return 0
    return begin if end - begin == 8 else 0


def _uniform(block: bytes, found: Elements) -> bool:
    """Take a block apart whose elements are all alike: a key, perhaps a value, nothing else."""
    if not block:
        return True
    size = int.from_bytes(block[:2], sys.byteorder)
    first = wire.attrs(block[4:size])
    if len(block) % size or first.keys() - {_KEY, _DATA}:
        return False
    key, value = _value(first[_KEY]), _value(first[_DATA]) if _DATA in first else None
    layout = f"=H10x{_room(key)}" + (f"8x{_room(value)}" if value is not None else "")
    if struct.calcsize(layout) != size:
        return False
    read = list(struct.iter_unpack(layout, block))
    if {one[0] for one in read} != {size}:
        return False
    found.update(((one[1], None) for one in read) if value is None else (one[1:] for one in read))
    return True


def _room(value: bytes) -> str:
    return f"{len(value)}s{-len(value) % 4}x"


def _one_by_one(block: bytes, found: Elements, ends: list[bytes]) -> None:
    for body in _each(block):
        parts = wire.attrs(body)
        key = _value(parts.get(_KEY, b""))
        if int.from_bytes(parts.get(_FLAGS, b""), "big") & _INTERVAL_END:
            ends.append(key)
        else:
            last = _value(parts[_KEY_END]) if _KEY_END in parts else b""
            found[key + last] = _value(parts[_DATA]) if _DATA in parts else None


def _value(nest: bytes) -> bytes:
    return wire.attrs(nest).get(1, b"")


def _each(block: bytes) -> Iterator[bytes]:
    """The bodies of a list of attributes."""
    offset = 0
    while offset + 4 <= len(block):
        size = int.from_bytes(block[offset : offset + 2], sys.byteorder)
        yield block[offset + 4 : offset + size]
        offset += (max(size, 4) + 3) & ~3


def fingerprint(netlink: Netlink, family: Family, table: str) -> str:
    """Of the table's rules, in their order, without their counts; "" when there is no such table."""
    body = _header(family) + attr(_RULE_TABLE, text(table))
    digest = hashlib.sha256()
    replies = netlink.ask(Message(_SUBSYSTEM | _GETRULE, F_DUMP, body))
    for _, reply in replies:
        rule = wire.attrs(reply[4:])
        if rule.get(_RULE_TABLE) != text(table):
            continue
        digest.update(rule[_RULE_CHAIN])
        for one in _each(rule.get(_RULE_EXPRESSIONS, b"")):
            expression = wire.attrs(one)
            name = expression.get(_NAME, b"")
            digest.update(name if name in _COUNTS else name + expression.get(_BODY, b""))
        digest.update(b"\n")
    return digest.hexdigest()[:16] if replies else ""
