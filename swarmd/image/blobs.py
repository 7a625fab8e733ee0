"""Blobs on disk by digest: ``<algorithm>/<two digits>/<hex>``.  Blocking; for threads.

A name is given only to what is complete and on disk: write, sync, rename, sync the directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from swarmd.model.errors import Invalid, NotFound

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_FLAT = re.compile(r"[a-f0-9]{64}")
ALGORITHMS = ("sha256", "sha512")


def algorithm_of(digest: str) -> str:
    """The hash a digest is of; raises :class:`Invalid` for what is no digest, or of a hash not supported."""
    if not _DIGEST.fullmatch(digest):
        raise Invalid(f"{digest[:140]!r} is not a digest: write sha256:<64 digits> or sha512:<128 digits>")
    return digest.partition(":")[0]


class Blobs:
    """The directory ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self) -> None:
        """Make the directories; give blobs with the names of release 0.1.0 those of today."""
        for algorithm in ALGORITHMS:
            (self._root / algorithm).mkdir(parents=True, exist_ok=True)
        flat = [path for path in (self._root / "sha256").iterdir() if _FLAT.fullmatch(path.name)]
        for path in flat:
            home = self._home(f"sha256:{path.name}")
            path.replace(home)
        for directory in {self._root / "sha256" / path.name[:2] for path in flat}:
            sync(directory)
        if flat:
            sync(self._root / "sha256")

    def path(self, digest: str) -> Path:
        """Where the blob is or would be; raises :class:`Invalid` for what is no digest."""
        name = digest[len(algorithm_of(digest)) + 1 :]
        return self._root / digest[: -len(name) - 1] / name[:2] / name

    def has(self, digest: str) -> bool:
        """Whether the blob is stored; False also for what is no digest."""
        return _DIGEST.fullmatch(digest) is not None and self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Bytes of a stored blob; raises :class:`NotFound`."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(f"No such blob: {digest}") from None

    def read(self, digest: str) -> bytes:
        """A small blob (manifest, configuration); raises :class:`NotFound`, or Invalid if it rotted."""
        try:
            raw = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"No such blob: {digest}") from None
        if hashlib.new(algorithm_of(digest), raw).hexdigest() != digest.partition(":")[2]:
            raise Invalid(f"blob {digest} is damaged on disk: remove the image and load it again")
        return raw

    def adopt(self, temp: Path, digest: str) -> None:
        """Give a verified temporary file its name."""
        fd = os.open(temp, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o444)
            os.fsync(fd)
        finally:
            os.close(fd)
        home = self._home(digest)
        temp.replace(home)
        sync(home.parent)

    def __iter__(self) -> Iterator[str]:
        """The digests of all that is stored."""
        for algorithm in ALGORITHMS:
            for directory in (self._root / algorithm).iterdir():
                for path in directory.iterdir():
                    yield f"{algorithm}:{path.name}"

    def weigh(self) -> tuple[int, int]:
        """How many there are, and their bytes; some microseconds for each."""
        count = total = 0
        for digest in self:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                total += self.path(digest).stat().st_size
                count += 1
        return count, total

    def is_whole(self, digest: str) -> bool:
        """Whether the blob is a file, and not something else in its place."""
        path = self.path(digest)
        return path.is_file() and stat.S_ISREG(path.lstat().st_mode)

    def _home(self, digest: str) -> Path:
        home = self.path(digest)
        if not home.parent.is_dir():
            home.parent.mkdir(exist_ok=True)
            sync(home.parent.parent)
        return home


def sync(directory: Path) -> None:
    """Wait until the names in ``directory`` are on disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
