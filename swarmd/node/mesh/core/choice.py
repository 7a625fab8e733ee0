"""What the user-space proxy decides for each client: may it connect, to which container, under what name."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from swarmd.node.network.port import Backend

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
Peer = tuple[str, int]
"""(address as a socket says it, port)."""

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_AND_PROXY = 0x21
_TCP4, _TCP6 = 0x11, 0x21


def address_of(host: str) -> Address:
    """A socket's word for an address, without zone; an IPv4 client of an IPv6 socket is an IPv4 client."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def prefixes(allow: Iterable[str]) -> tuple[Prefix, ...]:
    return tuple(ip_network(text, strict=False) for text in allow)


def may_connect(client: Address, allow: Sequence[Prefix]) -> bool:
    """Whether one of the prefixes holds the client; without any, everybody may."""
    return not allow or any(client in prefix for prefix in allow)


def by_client(client: Address, backends: Iterable[Backend]) -> tuple[Backend, ...]:
    """The backends in an order that depends on the client alone: when one goes, only its clients move."""

    def weight(backend: Backend) -> bytes:
        text = f"{backend.address} {backend.port}".encode()
        return hashlib.blake2b(client.packed + text, digest_size=8).digest()

    return tuple(sorted(backends, key=weight))


def proxy_header(client: Peer, server: Peer) -> bytes:
    """Version 2 of the PROXY protocol for a TCP connection from ``client`` that came to ``server``."""
    source, target = address_of(client[0]), address_of(server[0])
    family = _TCP4 if source.version == 4 else _TCP6
    body = source.packed + target.packed + struct.pack("!HH", client[1], server[1])
    return _SIGNATURE + struct.pack("!BBH", _VERSION_AND_PROXY, family, len(body)) + body
