"""Debian packages without installing them: downloaded with apt, unpacked, searched.

Nothing is configured or started on this machine.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


class Packages:
    """Packages unpacked below ``work``; a file is found with ``/bin``, ``/lib`` merged into ``/usr``."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._debs: dict[str, Path] = {}
        self._trees: list[Path] = []

    def add(self, name: str) -> None:
        """Download and unpack a package, once.  Exits with a sentence when apt cannot."""
        if name in self._debs:
            return
        place = self._work / "debs" / name
        place.mkdir(parents=True)
        command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        debs = list(place.glob("*.deb"))
        if done.returncode != 0 or not debs:
            raise SystemExit(
                f"apt-get cannot download {name}: {done.stderr.strip()}\n"
                "The lab's images are made from Debian's packages: run apt-get update, or mend the sources."
            )
        tree = self._work / "trees" / name
        tree.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", str(debs[0]), str(tree)], check=True)
        self._debs[name] = debs[0]
        self._trees.append(tree)

    def find(self, path: str) -> Path | None:
        """The unpacked file for an absolute path of an installed system."""
        merged = path.lstrip("/").removeprefix("usr/")
        for tree in self._trees:
            for place in (tree / merged, tree / "usr" / merged):
                if place.exists() or place.is_symlink():
                    return place
        return None

    def libraries(self, package: str) -> list[str]:
        """The library packages ``package`` depends on."""
        field = subprocess.run(
            ["dpkg-deb", "-f", str(self._debs[package]), "Pre-Depends", "Depends"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        names = re.findall(r"(?:^|[:,]\s*)([a-z0-9][a-z0-9.+-]+)", field, re.MULTILINE)
        return [
            name for name in names if name.startswith(("lib", "zlib")) and not name.startswith("libnginx")
        ]

    def closure(self, package: str, binary: str) -> dict[str, Path]:
        """What ``binary`` needs to run: installed path → file; packages are fetched until all is found."""
        waiting, found = [binary], dict[str, Path]()
        packages = [package]
        while waiting:
            path = waiting.pop()
            if path in found:
                continue
            place = self._library(path) or self._fetch(packages, path)
            found[path] = self._real(place)
            waiting += needed(found[path].read_bytes())
        return found

    def _real(self, place: Path) -> Path:
        """Follow symbolic links inside the packages; an absolute one must not lead to this machine."""
        while place.is_symlink():
            target = os.readlink(place)
            inside = self.find(target) if target.startswith("/") else place.parent / target
            if inside is None:
                raise SystemExit(f"{place.name} is a link to {target}, which no downloaded package has")
            place = inside
        return place

    def _fetch(self, packages: list[str], path: str) -> Path:
        """Add dependencies, nearest first, until one brings ``path``."""
        for name in packages:
            for library in self.libraries(name):
                if library in packages:
                    continue
                self.add(library)
                packages.append(library)
                if (place := self._library(path)) is not None:
                    return place
        raise SystemExit(f"no package that {packages[0]} depends on has {path}")

    def _library(self, path: str) -> Path | None:
        """A file by its path, or a library by its name in Debian's directories."""
        if "/" in path:
            return self.find(path)
        return next(
            (place for each in _library_dirs() if (place := self.find(f"{each}/{path}")) is not None), None
        )


def _library_dirs() -> tuple[str, ...]:
    triplet = f"{os.uname().machine}-linux-gnu"
    return (f"/usr/lib/{triplet}", "/usr/lib")


def needed(elf: bytes) -> list[str]:
    """The interpreter and the libraries a 64-bit little-endian ELF file asks for."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise SystemExit("the lab's images can be made on 64-bit little-endian machines only")
    offset, size, count = struct.unpack_from("<Q", elf, 32)[0], *struct.unpack_from("<HH", elf, 54)
    segments = [struct.unpack_from("<IIQQQQ", elf, offset + each * size) for each in range(count)]
    names = [
        elf[start : start + length].rstrip(b"\0").decode()
        for kind, _, start, _, _, length in segments
        if kind == _PT_INTERP
    ]
    for kind, _, start, _, _, length in segments:
        if kind == _PT_DYNAMIC:
            entries = list(struct.iter_unpack("<qQ", elf[start : start + length - length % 16]))
            table = next(value for tag, value in entries if tag == _DT_STRTAB)
            strings = next(
                at + table - address
                for kind_, _, at, address, _, extent in segments
                if kind_ == _PT_LOAD and address <= table < address + extent
            )
            names += [_string(elf, strings + value) for tag, value in entries if tag == _DT_NEEDED]
    return names


def _string(elf: bytes, at: int) -> str:
    return elf[at : elf.index(b"\0", at)].decode()
