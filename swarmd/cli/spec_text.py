"""The little languages inside flags: ``--publish``, ``--mount``, ``--env``, labels, capabilities.  Pure.

Every parser raises ValueError with a sentence.
"""

from __future__ import annotations

import csv
import os.path
import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from swarmd.cli.units import parse_size


class Port(NamedTuple):
    """Fields as in PortSpec; ``published`` 0 lets the swarm choose."""

    target: int
    published: int = 0
    protocol: str = "tcp"
    mode: str = "ingress"


class Mount(NamedTuple):
    """Fields as in MountSpec."""

    kind: str
    source: str
    target: str
    readonly: bool
    tmpfs_size: int
    tmpfs_mode: int


def parse_port(text: str) -> Port:
    """``80``, ``8080:80/udp``, or ``published=8080,target=80,protocol=tcp,mode=host``."""
    return _long_port(text) if "=" in text else _short_port(text)


def parse_mount(text: str) -> Mount:
    """``type=bind,source=/etc,target=/x,readonly``; a relative bind source is taken from here."""
    fields = _fields(text, bare=("readonly", "ro"))
    known = {name: fields.pop(name) for name in list(fields) if name in _MOUNT_FIELDS}
    if fields:
        name = next(iter(fields))
        raise ValueError(f"unexpected key '{name}' in '{text}': known are {', '.join(_MOUNT_FIELDS)}")
    values = {_MOUNT_FIELDS[name]: value for name, value in known.items()}
    kind, source, target = values.get("kind", "volume"), values.get("source", ""), values.get("target", "")
    if not target:
        raise ValueError(f"target is required in '{text}'")
    if kind not in ("bind", "volume", "tmpfs"):
        raise ValueError(f"invalid mount type '{kind}': write bind, volume or tmpfs")
    if kind != "tmpfs" and ("tmpfs_size" in values or "tmpfs_mode" in values):
        raise ValueError(f"cannot mix 'tmpfs-*' options with mount type '{kind}'")
    return Mount(
        kind=kind,
        source=os.path.abspath(source) if kind == "bind" and source.startswith(".") else source,
        target=target,
        readonly=_boolean("readonly", values.get("readonly", "false")),
        tmpfs_size=parse_size(values.get("tmpfs_size", "0")),
        tmpfs_mode=_octal(values.get("tmpfs_mode", "1777")),
    )


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


_MOUNT_FIELDS = {
    "type": "kind",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "tmpfs-size": "tmpfs_size",
    "tmpfs-mode": "tmpfs_mode",
}
_PORT_FIELDS = ("target", "published", "protocol", "mode")


def _short_port(text: str) -> Port:
    numbers, slash, protocol = text.partition("/")
    parts = numbers.split(":")
    if len(parts) > 2:
        raise ValueError(f"invalid port '{text}': a host address cannot be given, ports open on every node")
    published = _port_number("published", parts[0]) if len(parts) == 2 and parts[0] else 0
    return Port(_port_number("target", parts[-1]), published, _protocol(protocol if slash else "tcp"))


def _long_port(text: str) -> Port:
    fields = _fields(text)
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


def _fields(text: str, bare: tuple[str, ...] = ()) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in next(csv.reader([text]), []):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals and name not in bare:
            raise ValueError(f"invalid field '{part}' must be a key=value pair")
        fields[name] = value if equals else "true"
    return fields


def _boolean(field: str, text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"invalid value for {field}: {text}")
    return text.lower() in ("true", "1")


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise ValueError(f"invalid value for tmpfs-mode: {text} (write it in octal, as 1777)") from None
