"""Connection tracking by netlink: delete flows by mark or by container, count those that still matter."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_address

from msgspec import Struct

from swarmd.node.network import wire
from swarmd.node.network.wire import F_DUMP, Message, Netlink, attr, be32, nest, u32

_SUBSYSTEM = 1 << 8
_GET, _DELETE = 1, 2
_ORIGINAL, _REPLY, _STATUS, _PROTOINFO, _MARK, _MARK_MASK, _FILTER = 1, 2, 3, 4, 8, 21, 25
_IPS, _PROTOCOL = 1, 2  # within a tuple
_SOURCE: dict[int, int] = {socket.AF_INET: 1, socket.AF_INET6: 3}  # within its addresses
_BY_SOURCE, _BY_PROTOCOL = 1, 8
_DESTINATION_CHANGED = 1 << 5
_TCP, _UDP, _SCTP = 6, 17, 132

_LIVE = {
    # SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, SYN_SENT2: somebody still waits for the other.
    _TCP: frozenset({1, 2, 3, 4, 5, 9}),
    # COOKIE_WAIT, COOKIE_ECHOED, ESTABLISHED, SHUTDOWN_SENT, SHUTDOWN_RECD
    _SCTP: frozenset({2, 3, 4, 5, 6}),
}
_STATE_OF = {_TCP: 1, _SCTP: 3}  # within CTA_PROTOINFO


class Flow(Struct, frozen=True):
    """One tracked flow: protocol number, its state (0 for protocols without), the attributes that name it to
    the kernel, the packed address that answers, and whether its destination was translated."""

    protocol: int
    state: int
    name: bytes
    answers: bytes = b""
    is_translated: bool = False

    def matters(self) -> bool:
        """Whether ending the container now could lose something.  UDP promises nothing."""
        return self.state in _LIVE.get(self.protocol, ())


def _header(family: int) -> bytes:
    return struct.pack("!BBH", family, 0, 0)


def delete_by_mark(netlink: Netlink, mark: int, mask: int = 0xFFFFFFFF) -> None:
    """Forget every flow, of both families, whose mark has this value.

    Raises :class:`ValueError` for an empty mask.
    """
    if not mask:
        raise ValueError("an empty mask would delete every flow of the machine")
    body = _header(socket.AF_UNSPEC) + attr(_MARK, be32(mark)) + attr(_MARK_MASK, be32(mask))
    netlink.must(Message(_SUBSYSTEM | _DELETE, 0, body), allow=(errno.ENOENT,))


def flows_to(netlink: Netlink, address: str) -> list[Flow]:
    """The flows that ``address`` answers, after every translation.

    The kernel filters, but it walks its whole table: about 10 ms with 262,144 buckets.
    """
    family = _family(address)
    source = attr(_SOURCE[family], socket.inet_pton(family, address))
    return _dump(netlink, family, nest(_IPS, source), _BY_SOURCE)


def connections_to(netlink: Netlink, addresses: Collection[str]) -> int:
    """How many flows to these addresses somebody still waits for."""
    return sum(flow.matters() for address in addresses for flow in flows_to(netlink, address))


def delete_udp_to(netlink: Netlink, addresses: Collection[str]) -> int:
    """Forget the UDP flows these addresses answer, so that their clients are sent elsewhere; how many."""
    count = 0
    for family in _SOURCE:
        wanted = {socket.inet_pton(family, one) for one in addresses if _family(one) == family}
        if wanted:
            flows = _dump(netlink, family, nest(_PROTOCOL, attr(1, bytes([_UDP]))), _BY_PROTOCOL)
            doomed = [flow for flow in flows if flow.answers in wanted]
            netlink.must(*(_deletion(family, flow) for flow in doomed), allow=(errno.ENOENT,))
            count += len(doomed)
    return count


def delete_udp_except(
    netlink: Netlink, addresses: Collection[str], pools: Collection[IPv4Network | IPv6Network]
) -> int:
    """Forget the translated UDP flows that addresses of ``pools`` other than these answer; how many.

    For a daemon that was away while backends left.  Flows to the others go on.
    """
    kept = {socket.inet_pton(_family(one), one) for one in addresses}
    count = 0
    for family in _SOURCE:
        flows = _dump(netlink, family, nest(_PROTOCOL, attr(1, bytes([_UDP]))), _BY_PROTOCOL)
        doomed = [flow for flow in flows if flow.is_translated and flow.answers not in kept]
        doomed = [flow for flow in doomed if any(ip_address(flow.answers) in pool for pool in pools)]
        netlink.must(*(_deletion(family, flow) for flow in doomed), allow=(errno.ENOENT,))
        count += len(doomed)
    return count


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _deletion(family: int, flow: Flow) -> Message:
    return Message(_SUBSYSTEM | _DELETE, 0, _header(family) + flow.name)


def _dump(netlink: Netlink, family: int, reply: bytes, by: int) -> list[Flow]:
    body = _header(family) + nest(_REPLY, reply) + nest(_FILTER, attr(1, u32(0)), attr(2, u32(by)))
    return [_read(family, answer) for _, answer in netlink.ask(Message(_SUBSYSTEM | _GET, F_DUMP, body))]


def _read(family: int, body: bytes) -> Flow:
    found = wire.attrs(body[4:])
    original = found.get(_ORIGINAL, b"")
    protocol = wire.attrs(wire.attrs(original).get(_PROTOCOL, b"")).get(1, b"\0")[0]
    details = wire.attrs(wire.attrs(found.get(_PROTOINFO, b"")).get(_STATE_OF.get(protocol, 0), b""))
    answers = wire.attrs(wire.attrs(found.get(_REPLY, b"")).get(_IPS, b"")).get(_SOURCE[family], b"")
    translated = bool(int.from_bytes(found.get(_STATUS, b""), "big") & _DESTINATION_CHANGED)
    return Flow(protocol, details.get(1, b"\0")[0], nest(_ORIGINAL, original), answers, translated)
