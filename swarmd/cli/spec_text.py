"""The little languages inside flags: ``--publish``, ``--env``, labels, capabilities.  Pure.

Every parser raises ValueError with a sentence.
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Port(NamedTuple):
    """Fields as in PortSpec; ``published`` 0 lets the swarm choose."""

    target: int
    published: int = 0
    protocol: str = "tcp"
    mode: str = "ingress"


def parse_port(text: str) -> Port:
    """``80``, ``8080:80/udp``, or ``published=8080,target=80,protocol=tcp,mode=host``."""
    return _long_port(text) if "=" in text else _short_port(text)


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """``key=value`` or ``key`` (empty value); the last one wins."""
    labels: dict[str, str] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key.strip():
            raise ValueError(f"invalid label '{text}': empty name")
        labels[key] = value
    return labels


def parse_env(texts: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """``KEY=value``; ``KEY`` alone takes the value it has here and is left out when it has none."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, _ = text.partition("=")
        if not key:
            raise ValueError(f"invalid environment variable: {text}")
        if equals:
            found[key] = text
        elif key in environ:
            found[key] = f"{key}={environ[key]}"
    return list(found.values())


def env_file_lines(content: str) -> list[str]:
    """The variables of an ``--env-file``: one a line, ``#`` starts a comment line."""
    lines = (line.lstrip() for line in content.splitlines())
    kept = [line for line in lines if line and not line.startswith("#")]
    for line in kept:
        if any(c.isspace() for c in line.partition("=")[0]):
            raise ValueError(f"variable '{line.partition('=')[0]}' contains whitespaces")
    return kept


def parse_words(text: str) -> list[str]:
    """Shell words."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"invalid command line '{text}': {error}") from None


def parse_capability(text: str) -> str:
    """``net_admin`` and ``CAP_NET_ADMIN`` are the same; ``ALL`` stays."""
    name = text.strip().upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def parse_count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise ValueError(f'"{text}" is no whole number of 0 or more')
    return int(text)


def parse_ratio(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f'"{text}" is no number from 0 to 1')
    return value


_PORT_FIELDS = ("target", "published", "protocol", "mode")


def _short_port(text: str) -> Port:
    numbers, slash, protocol = text.partition("/")
    parts = numbers.split(":")
    if len(parts) > 2:
        raise ValueError(f"invalid port '{text}': a host address cannot be given, ports open on every node")
    published = _port_number("published", parts[0]) if len(parts) == 2 and parts[0] else 0
    return Port(_port_number("target", parts[-1]), published, _protocol(protocol if slash else "tcp"))


def _long_port(text: str) -> Port:
    fields = dict(fields_of(text))
    unknown = [name for name in fields if name not in _PORT_FIELDS]
    if unknown:
        raise ValueError(f"invalid field key '{unknown[0]}': known are {', '.join(_PORT_FIELDS)}")
    if "target" not in fields:
        raise ValueError('missing mandatory field "target"')
    mode = fields.get("mode", "ingress")
    if mode not in ("ingress", "host"):
        raise ValueError(f"invalid publish mode value ({mode}): must be either 'ingress' or 'host'")
    published = _port_number("published", fields["published"]) if "published" in fields else 0
    return Port(
        _port_number("target", fields["target"]), published, _protocol(fields.get("protocol", "tcp")), mode
    )


def _port_number(field: str, text: str) -> int:
    if "-" in text:
        raise ValueError(f"{field} port '{text}' is a range: publish each port with a flag of its own")
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"invalid {field} port '{text}': must be a number from 1 to 65535")
    return int(text)


def _protocol(text: str) -> str:
    if text.lower() not in ("tcp", "udp"):
        raise ValueError(f"invalid protocol '{text}': write tcp or udp")
    return text.lower()


def fields_of(text: str, bare: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """``a=1,b`` as pairs; a name alone is one of ``bare`` and means true."""
    fields: list[tuple[str, str]] = []
    for part in next(csv.reader([text]), []):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals and name not in bare:
            raise ValueError(f"invalid field '{part}' must be a key=value pair")
        fields.append((name, value if equals else "true"))
    return fields


def parse_boolean(field: str, text: str) -> bool:
    """``true``, ``1``, ``false`` or ``0``."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"invalid value for {field}: {text}")
    return text.lower() in ("true", "1")
