"""Which IP address the other nodes reach this node by."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct

from swarmd.model.errors import Invalid

_SIOCGIFADDR = 0x8915


def interface_addresses() -> dict[str, str]:
    """IPv4 address of each interface that has one."""
    found: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # no IPv4 address on this one
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def resolve(text: str, addresses: dict[str, str], *, option: str = "advertise-addr") -> str:
    """``<ip|interface>[:port]`` as an IP of this node; empty picks the only one there is.

    Raises Invalid with what to do.
    """
    usable = {name: ip for name, ip in addresses.items() if not ipaddress.ip_address(ip).is_loopback}
    host = text.rpartition(":")[0] if text.count(":") == 1 else text
    if not host:
        return _only(usable, option)
    if host in addresses:
        return addresses[host]
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        names = ", ".join(sorted(usable)) or "none with an address"
        raise Invalid(
            f'{option} "{text}" is neither an IP address nor an interface of this node (it has: {names})'
        ) from error
    if address.is_unspecified:
        return _only(usable, option)
    if str(address) not in addresses.values():
        raise Invalid(
            f"{option} {host} is not an address of this node (it has: {', '.join(usable.values())})"
        )
    return str(address)


def _only(usable: dict[str, str], option: str) -> str:
    if len(usable) == 1:
        return next(iter(usable.values()))
    if not usable:
        raise Invalid(f"this node has no address that others could reach: give it one, or use --{option}")
    listed = ", ".join(f"{ip} on {name}" for name, ip in sorted(usable.items()))
    raise Invalid(
        f"could not choose an IP address to advertise since this system has multiple addresses ({listed}) "
        f"- specify one with --{option}"
    )
