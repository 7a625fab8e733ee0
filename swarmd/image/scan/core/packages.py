"""What is installed in an image: one entry for each package, and how the world names it.  Pure."""

from __future__ import annotations

import re
from urllib.parse import quote

import msgspec

DEB, APK, PYTHON = "deb", "apk", "pypi"


class Package(msgspec.Struct, frozen=True):
    """``kind``: the type of its package URL.  ``source``: what it was built from, where advisories say so.

    ``path``: the file that says that it is installed.
    """

    kind: str
    name: str
    version: str
    source: str = ""
    source_version: str = ""
    arch: str = ""
    path: str = ""


class Distribution(msgspec.Struct, frozen=True):
    """What ``os-release`` says.  ``id``: debian, alpine …; empty when nothing says it."""

    id: str = ""
    version: str = ""
    codename: str = ""

    def shown(self) -> str:
        """``debian 12``."""
        return f"{self.id} {self.version or self.codename}".strip()


class Inventory(msgspec.Struct, frozen=True):
    """All packages, sorted; ``problems``: sentences about what could not be read."""

    distribution: Distribution
    packages: tuple[Package, ...]
    problems: tuple[str, ...] = ()


def read_os_release(text: str) -> Distribution:
    """Of ``/etc/os-release``."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            found[key] = _unquoted(value)
    return Distribution(found.get("ID", ""), found.get("VERSION_ID", ""), found.get("VERSION_CODENAME", ""))


def python_name(name: str) -> str:
    """As indexes of Python packages compare names: ``Flask_Login`` is ``flask-login``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def purl(package: Package, distribution: Distribution) -> str:
    """The package URL: ``pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12``."""
    name, version = quote(package.name.lower(), safe=""), quote(package.version, safe="~")
    if package.kind == PYTHON:
        return f"pkg:pypi/{quote(python_name(package.name), safe='')}@{version}"
    owner = quote(distribution.id or {DEB: "debian", APK: "alpine"}[package.kind], safe="")
    told = {"arch": package.arch}
    if distribution.id:
        told["distro"] = (
            f"{distribution.id}-{distribution.version}" if distribution.version else distribution.id
        )
    marks = "&".join(f"{key}={quote(value, safe='')}" for key, value in told.items() if value)
    return f"pkg:{package.kind}/{owner}/{name}@{version}" + (f"?{marks}" if marks else "")


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value)
