"""The little languages of what a container may use: limits, devices, hosts, modes.  Pure.

Every parser raises ValueError with a sentence.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from swarmd.cli.units import parse_size

UNSET = object()
"""As a flag's value: back to what it is when nobody says anything."""


class Ulimit(NamedTuple):
    """Fields as in UlimitSpec."""

    name: str
    soft: int
    hard: int


class Device(NamedTuple):
    """Fields as in DeviceSpec."""

    source: str
    target: str
    permissions: str


class Throttle(NamedTuple):
    """Fields as in ThrottleSpec."""

    device: str
    rate: int


def parse_ulimit(text: str) -> Ulimit:
    """``nofile=1024[:2048]``; one number is both; -1 or ``unlimited`` has no end."""
    name, equals, values = text.partition("=")
    soft, colon, hard = values.partition(":")
    if not name or not equals:
        raise ValueError(f"invalid ulimit argument: {text}: write NAME=SOFT[:HARD]")
    first = _limit(soft, text)
    return Ulimit(name, first, _limit(hard, text) if colon else first)


def parse_device(text: str) -> Device:
    """``/dev/fuse[:/dev/there][:rwm]``."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not parts[0]:
        raise ValueError(f"invalid device specification: {text}: write SOURCE[:TARGET][:PERMISSIONS]")
    target, permissions = parts[0], "rwm"
    for part in parts[1:2]:
        if _are_permissions(part) and len(parts) == 2:
            permissions = part
        else:
            target = part
    if len(parts) == 3:
        permissions = parts[2]
    if not _are_permissions(permissions):
        raise ValueError(f"invalid device mode: {permissions}: write some of r, w and m")
    for path in (parts[0], target):
        if not path.startswith("/"):
            raise ValueError(f"{path} is not an absolute path")
    return Device(parts[0], target, permissions)


def parse_throttle_bytes(text: str) -> Throttle:
    """``/dev/vda:1mb``: bytes a second."""
    device, size = _throttle(text, "/dev/vda:1mb")
    return Throttle(device, parse_size(size))


def parse_throttle_count(text: str) -> Throttle:
    """``/dev/vda:1000``: operations a second."""
    device, count = _throttle(text, "/dev/vda:1000")
    if not count.isdecimal():
        raise ValueError(f"invalid rate for device: {text}: operations a second are a whole number")
    return Throttle(device, int(count))


def parse_host(text: str) -> str:
    """``name:address`` or ``name=address`` as a line of a hosts file."""
    mark = "=" if "=" in text else ":"
    name, _, address = text.partition(mark)
    if not name or any(letter.isspace() for letter in name) or not address:
        raise ValueError(f'bad format for add-host: "{text}": write NAME:ADDRESS')
    return f"{_address(address.removeprefix('[').removesuffix(']'))} {name}"


def parse_host_gone(text: str) -> tuple[str, str]:
    """(name, address) of ``name[:address]``; no address means every one."""
    name, _, address = text.partition("=" if "=" in text else ":")
    return name, address.removeprefix("[").removesuffix("]")


def parse_dns(text: str) -> str:
    """The address of a name server."""
    return _address(text)


def parse_sysctl(text: str) -> str:
    """``name=value``."""
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise ValueError(f"invalid sysctl '{text}': write NAME=VALUE")
    return text


def parse_security(text: str) -> tuple[str, str]:
    """(what, its value) of ``no-new-privileges[=false]`` and ``seccomp=default|unconfined|FILE``."""
    mark = "=" if "=" in text else ":"
    name, given, value = text.partition(mark)
    if name == "no-new-privileges" and value in ("", "true", "false"):
        return name, value or "true"
    if name == "seccomp" and given and value:
        return name, value
    raise ValueError(
        "known are no-new-privileges[=true|false] and seccomp=default|unconfined|FILE; "
        "there are no AppArmor and SELinux profiles here"
    )


def parse_swap(text: str) -> int:
    """Bytes of memory and swap together; -1: any amount of swap."""
    return -1 if text == "-1" else parse_size(text)


def parse_swappiness(text: str) -> object:
    """0 to 100; -1: what the kernel is set to."""
    if text == "-1":
        return UNSET
    if not text.isdecimal() or int(text) > 100:
        raise ValueError(f"invalid memory swappiness: {text}: the range is 0 to 100, or -1 for the default")
    return int(text)


def parse_number(text: str) -> int:
    """A whole number, also below zero."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'"{text}" is no whole number') from None


def parse_isolation(text: str) -> str:
    """Only ``default`` is known on Linux, and means nothing."""
    if text not in ("", "default"):
        raise ValueError(f"isolation {text} is for Windows containers: leave the flag out")
    return text


def _limit(text: str, whole: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    if not text.isdecimal():
        raise ValueError(f"invalid ulimit argument: {whole}: {text!r} is no number (-1 is unlimited)")
    return int(text)


def _are_permissions(text: str) -> bool:
    return 0 < len(text) <= 3 and set(text) <= set("rwm") and len(set(text)) == len(text)


def _throttle(text: str, example: str) -> tuple[str, str]:
    device, colon, rate = text.rpartition(":")
    if not colon or not device.startswith("/dev/") or not rate:
        raise ValueError(f"bad format: {text}: write the path of a device and a rate, as {example}")
    return device, rate


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text} is not an ip address") from None
