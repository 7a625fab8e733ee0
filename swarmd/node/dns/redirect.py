"""Leads what a container sends to 127.0.0.11:53 to the port we listen on, in the container's own namespace.

Listening on port 53 itself would keep a name server in the container from taking 0.0.0.0:53.  The ports are
rewritten packet by packet, without address translation: that would make the kernel track every connection of
the container.  As text:

    ip daddr 127.0.0.11 udp dport 53 udp dport set PORT        and back:
    ip saddr 127.0.0.11 udp sport PORT udp sport set 53        the same for TCP
"""

from __future__ import annotations

import socket
import struct

from swarmd.node.network.wire import F_CREATE, F_DUMP, NETFILTER, Message, Netlink, attr, be32, nest, text

ADDRESS = "127.0.0.11"
DNS_PORT = 53

_TABLE = attr(1, text("swarmd_names"))
_CHAIN = text("out")
_SUBSYSTEM = 10 << 8
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _GETRULE = 0, 2, 3, 6, 7
_RULES = 4
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_APPEND = 0x800
_OUTPUT_HOOK, _MANGLE_PRIORITY = 3, -150
_NETWORK, _TRANSPORT = 1, 2
_SOURCE, _DESTINATION = 12, 16
_CHECKSUMS = {socket.IPPROTO_UDP: 6, socket.IPPROTO_TCP: 16}


def install(udp_port: int, tcp_port: int) -> None:
    """Load the rules in the calling thread's namespace, in place of older ones.

    Raises OSError where the kernel has no nftables.
    """
    netlink = Netlink(NETFILTER)
    try:
        header = struct.pack("!BBH", socket.AF_UNSPEC, 0, 10)
        netlink.transaction(
            Message(_BATCH_BEGIN, 0, header), messages(udp_port, tcp_port), Message(_BATCH_END, 0, header)
        )
    finally:
        netlink.close()


def is_there() -> bool:
    """Whether all rules are loaded in the calling thread's namespace.  Raises OSError."""
    netlink = Netlink(NETFILTER)
    try:
        return len(netlink.ask(_message(_GETRULE, F_DUMP, _TABLE))) == _RULES
    finally:
        netlink.close()


def messages(udp_port: int, tcp_port: int) -> list[Message]:
    """The transaction that makes the table anew."""
    hook = nest(4, attr(1, be32(_OUTPUT_HOOK)), attr(2, struct.pack("!i", _MANGLE_PRIORITY)))
    chain = _TABLE + attr(3, _CHAIN) + attr(7, text("filter")) + hook
    made = [
        _message(_NEWTABLE, F_CREATE, _TABLE),
        _message(_DELTABLE, 0, _TABLE),
        _message(_NEWTABLE, F_CREATE, _TABLE),
        _message(_NEWCHAIN, F_CREATE, chain),
    ]
    for protocol, port in ((socket.IPPROTO_UDP, udp_port), (socket.IPPROTO_TCP, tcp_port)):
        there = _rule(protocol, _DESTINATION, 2, DNS_PORT, port)
        back = _rule(protocol, _SOURCE, 0, port, DNS_PORT)
        made += [_message(_NEWRULE, F_CREATE | _APPEND, rule) for rule in (there, back)]
    return made


def _message(kind: int, flags: int, body: bytes) -> Message:
    return Message(_SUBSYSTEM | kind, flags, struct.pack("!BBH", socket.AF_INET, 0, 0) + body)


def _rule(protocol: int, address_at: int, port_at: int, old: int, new: int) -> bytes:
    """A packet of ``protocol`` with our address at ``address_at`` and port ``old``: make it ``new``."""
    return (
        _TABLE
        + attr(2, _CHAIN)
        + nest(
            4,
            *_is_equal(_load(_NETWORK, address_at, 4), socket.inet_aton(ADDRESS)),
            *_is_equal(_expression("meta", attr(2, be32(16)), attr(1, be32(1))), bytes((protocol,))),
            *_is_equal(_load(_TRANSPORT, port_at, 2), struct.pack("!H", old)),
            _expression("immediate", attr(1, be32(1)), nest(2, attr(1, struct.pack("!H", new)))),
            _expression(
                "payload",
                attr(5, be32(1)), attr(2, be32(_TRANSPORT)), attr(3, be32(port_at)), attr(4, be32(2)),
                attr(6, be32(1)), attr(7, be32(_CHECKSUMS[protocol])),
            ),
        )
    )  # fmt: skip


def _is_equal(load: bytes, value: bytes) -> tuple[bytes, bytes]:
    return load, _expression("cmp", attr(1, be32(1)), attr(2, be32(0)), nest(3, attr(1, value)))


def _load(base: int, offset: int, length: int) -> bytes:
    parts = ((1, 1), (2, base), (3, offset), (4, length))
    return _expression("payload", *(attr(kind, be32(value)) for kind, value in parts))


def _expression(name: str, *parts: bytes) -> bytes:
    return nest(1, attr(1, text(name)), nest(2, *parts))
