"""The language of ``--publish``.  Pure; ValueError with a sentence.

    8080:80/udp                                     short: [ADDRESS:][PUBLISHED:]TARGET[/PROTOCOL]
    80:8080,host=app.example.com,path=/api          short, with words of the long form behind it
    published=80,target=8080,allow=10.0.0.0/8       long

Equal ranges publish each of their ports; a range that leads to one target lets the swarm choose in it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from swarmd.cli.spec_text import fields_of, parse_boolean

PROTOCOLS = ("tcp", "udp", "sctp")
_FIELDS = ("target", "published", "protocol", "mode", "ip", "allow", "sticky", "host", "path", "tls")
_SPELLINGS = {"dst": "target", "container_port": "target", "src": "published", "host_ip": "ip"}


class Port(NamedTuple):
    """Fields as in PortSpec; ``published`` 0 lets the swarm choose, ``published_end``: from there to here."""

    target: int
    published: int = 0
    protocol: str = "tcp"
    mode: str = "ingress"
    published_end: int = 0
    host_ip: str = ""
    allow: tuple[str, ...] = ()
    sticky: bool = False
    host: str = ""
    path: str = ""
    tls: str = ""

    @property
    def place(self) -> tuple[str, int, int, str, str, str, str]:
        """What tells it from the other ports of its service."""
        return (self.protocol, self.target, self.published, self.mode, self.host_ip, self.host, self.path)

    def is_meant_by(self, other: Port) -> bool:
        """Whether removing ``other`` removes this: by target, as Docker does, and by route if it has one."""
        same = (self.target, self.protocol, self.mode) == (other.target, other.protocol, other.mode)
        return same and other.host in ("", self.host) and other.path in ("", self.path)


def parse_ports(text: str) -> tuple[Port, ...]:
    """One port, or those of a range."""
    first, comma, rest = text.partition(",")
    if "=" in first:
        return _ports(_words(text))
    if rest.partition("=")[0].strip() in ("target", "published", "protocol"):
        raise ValueError(f"'{first}' and '{rest}' both say which port: write one of them")
    return _ports(_short_port(first) | (_words(rest) if comma else {}))


def _short_port(text: str) -> dict[str, list[str]]:
    numbers, slash, protocol = text.partition("/")
    rest, _, target = numbers.rpartition(":")
    address, published = _address_before(rest) if ":" in rest else ("", rest)
    found = {"target": [target], "protocol": [protocol if slash else "tcp"]}
    return found | ({"published": [published]} if published else {}) | ({"ip": [address]} if address else {})


def _address_before(text: str) -> tuple[str, str]:
    """``127.0.0.1:8080`` or ``[::1]:8080`` as address and port; the port may be empty."""
    address, _, published = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        raise ValueError(f"invalid address '{address}': write an IPv6 address in brackets, as [::1]:80:80")
    if not address:
        raise ValueError("the address before the first ':' is empty: write ADDRESS:PUBLISHED:TARGET")
    return address, published


def _words(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in fields_of(text, bare=("sticky",)):
        name = _SPELLINGS.get(name, name)
        if name not in _FIELDS:
            raise ValueError(f"invalid field key '{name}': known are {', '.join(_FIELDS)}")
        if name in found and name != "allow":
            raise ValueError(f"{name} is given twice")
        found.setdefault(name, []).append(value)
    return found


def _ports(given: dict[str, list[str]]) -> tuple[Port, ...]:
    if not given.get("target"):
        raise ValueError('missing mandatory field "target"')
    one = {name: values[0] for name, values in given.items()}
    mode = one.get("mode", "ingress")
    if mode not in ("ingress", "host"):
        raise ValueError(f"invalid publish mode value ({mode}): must be either 'ingress' or 'host'")
    like = Port(
        target=0,
        protocol=_protocol(one.get("protocol", "tcp")),
        mode=mode,
        host_ip=_host_ip(one.get("ip", "")),
        allow=_prefixes(given.get("allow", ())),
        sticky=parse_boolean("sticky", one.get("sticky", "false")),
        host=one.get("host", "").lower(),
        path=_path(one.get("path", "")),
        tls=one.get("tls", ""),
    )
    targets = _range("target", one["target"])
    published = _range("published", one["published"]) if one.get("published") else None
    return tuple(
        like._replace(target=target, published=low, published_end=high)
        for target, low, high in _paired(targets, published)
    )


def _paired(targets: tuple[int, int], published: tuple[int, int] | None) -> list[tuple[int, int, int]]:
    """Each target port with its published one, and the end of the range that it may be chosen from."""
    first, last = targets
    if published is None:
        return [(target, 0, 0) for target in range(first, last + 1)]
    low, high = published
    if high - low == last - first:
        return [(target, low + target - first, 0) for target in range(first, last + 1)]
    if first == last:
        return [(first, low, high)]
    raise ValueError(
        f"Invalid ranges specified for container and host Ports: {first}-{last} and {low}-{high} "
        "(they must be equally long, or the target one port)"
    )


def _range(field: str, text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    low = _number(field, first)
    high = _number(field, last) if dash else low
    if high < low:
        raise ValueError(f"invalid {field} port range '{text}': it ends before it begins")
    return low, high


def _number(field: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"invalid {field} port '{text}': must be a number from 1 to 65535")
    return int(text)


def _protocol(text: str) -> str:
    if text.lower() not in PROTOCOLS:
        raise ValueError(f"invalid protocol '{text}': write tcp, udp or sctp")
    return text.lower()


def _host_ip(text: str) -> str:
    """An address, or the name of an interface."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        if len(text) > 15 or any(c.isspace() or c in "/:" for c in text):
            raise ValueError(f"invalid ip '{text}': write an address or the name of an interface") from None
        return text
    return "" if address.is_unspecified else str(address)


def _prefixes(texts: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for text in (part.strip() for value in texts for part in value.split(";")):
        try:
            found.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            raise ValueError(f"invalid allow '{text}': write a prefix such as 10.0.0.0/8") from None
    return tuple(dict.fromkeys(found))


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError(f"invalid path '{text}': it must begin with /")
    return text
