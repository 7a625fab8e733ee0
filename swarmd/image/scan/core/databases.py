"""Which files of an image say what is installed, and what they say: dpkg, apk, Python.  Pure.

What cannot be read is left out: an inventory of what is there is worth more than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from swarmd.image.scan.core.packages import APK, DEB, PYTHON, Package

MOST_BYTES = 64 << 20
"""Of one such file."""

MOST_HEADER = 1 << 20
"""Of a Python package's metadata, which begins with its header."""

_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_DPKG = "var/lib/dpkg/status"
_DPKG_DIRECTORY = "var/lib/dpkg/status.d/"
_APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_PYTHON = re.compile(r"(?:^|/)[^/]+(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg-info)$")
_SOURCE = re.compile(r"(\S+)(?:\s+\(([^)]+)\))?")
_LINE = 100_000


def kind_of(path: str) -> str:
    """``os-release``, ``deb``, ``apk`` or ``pypi``; "" for a file that says nothing of packages."""
    if path in _OS_RELEASE:
        return "os-release"
    if path == _DPKG or (path.startswith(_DPKG_DIRECTORY) and not path.endswith(".md5sums")):
        return DEB
    if path in _APK:
        return APK
    return PYTHON if _PYTHON.search(path) else ""


def most_bytes(kind: str) -> int:
    """How much of such a file is read."""
    return MOST_HEADER if kind == PYTHON else MOST_BYTES


def read(kind: str, path: str, text: str) -> list[Package]:
    """The packages that a file names."""
    if kind == DEB:
        return list(_dpkg(path, text))
    if kind == APK:
        return list(_apk(path, text))
    return list(_python(path, text))


def _dpkg(path: str, text: str) -> Iterator[Package]:
    for fields in _stanzas(text):
        status = fields.get("status", "")
        name, version = fields.get("package", ""), fields.get("version", "")
        # Of distroless images each package has a file, without a status.
        if not name or not version or (status and status.split()[-1] != "installed"):
            continue
        found = _SOURCE.match(fields.get("source", ""))
        source, source_version = (found[1], found[2] or "") if found else (name, "")
        yield Package(
            DEB, name, version, source, source_version or version, fields.get("architecture", ""), path
        )


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Paragraphs of ``Key: value`` lines; what continues a value is left out."""
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif line[0] not in " \t":
            key, colon, value = line[:_LINE].partition(":")
            if colon:
                fields.setdefault(key.strip().lower(), value.strip())
    if fields:
        yield fields


def _apk(path: str, text: str) -> Iterator[Package]:
    fields: dict[str, str] = {}
    for line in [*text.split("\n"), ""]:
        if line:
            key, colon, value = line[:_LINE].partition(":")
            if colon:
                fields.setdefault(key, value.strip())
            continue
        name, version = fields.get("P", ""), fields.get("V", "")
        if name and version:
            yield Package(APK, name, version, fields.get("o", "") or name, version, fields.get("A", ""), path)
        fields = {}


def _python(path: str, text: str) -> Iterator[Package]:
    header = next(_stanzas(text.lstrip("\ufeff\r\n").replace("\r\n", "\n")), {})
    name, version = header.get("name", ""), header.get("version", "")
    if name and version:
        yield Package(PYTHON, name, version, path=path)
