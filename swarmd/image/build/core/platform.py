"""Platforms as people write them, and as they are compared: ``arm64`` is ``linux/arm64``.  Pure."""

from __future__ import annotations

import re

from swarmd.model.errors import Invalid

_PART = re.compile(r"[a-z0-9_.-]+")
_SYSTEMS = ("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasip1")
_ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm/v7",
    "armel": "arm/v6",
    "arm": "arm/v7",
    **dict.fromkeys(("i386", "i486", "i586", "i686"), "386"),
}
_DEFAULT_VARIANTS = ("amd64/v1", "arm64/v8", "arm64/8")


def normal_platform(text: str, here: str = "linux/amd64") -> str:
    """``os/architecture`` or ``os/architecture/variant``, in Go's names.  Raises Invalid.

    What is left out is linux; a system alone has the architecture of ``here``.
    """
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(map(_PART.fullmatch, parts)):
        raise Invalid(f'"{text}" is no platform; write it as linux/amd64 or linux/arm/v7')
    if len(parts) == 1:
        parts = [parts[0], *here.split("/")[1:]] if parts[0] in _SYSTEMS else ["linux", *parts]
    system, *rest = parts
    architecture = "/".join([_ALIASES.get(rest[0], rest[0]), *rest[1:]] if len(rest) == 1 else rest)
    if len(rest) == 2:
        name, variant = _ALIASES.get(rest[0], rest[0]).partition("/")[0], rest[1]
        architecture = f"{name}/{variant if variant.startswith('v') or name != 'arm' else f'v{variant}'}"
    if architecture in _DEFAULT_VARIANTS:
        architecture = architecture.partition("/")[0]
    return f"{system}/{architecture}"
