"""Byte streams on the way to or from disk: decompression, digests, bounds.  Blocking; for threads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from swarmd.image.codecs import Buffered, decoded
from swarmd.image.core.tar import CHUNK, Read
from swarmd.image.pumps import Ahead
from swarmd.model.errors import Invalid, Unavailable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CURES = {"images": "image prune", "volumes": "volume prune"}


class DiskFull(Unavailable):
    """There is no room for what was to be written."""


class Readable(Protocol):
    """Anything with a ``read``: a file, a pipe."""

    def read(self, count: int, /) -> bytes: ...


@contextlib.contextmanager
def disk_errors(root: Path, what: str = "images") -> Iterator[None]:
    """Tell a full disk, met by a file or a database there, in words: :class:`DiskFull`, naming ``root``."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if not is_full(error):
            raise
        raise no_space(root, what) from error


def is_full(error: Exception) -> bool:
    """Whether that is what the error says: the disk is full."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0)
        return code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE
    return isinstance(error, OSError) and error.errno in _FULL


def no_space(root: Path, what: str = "images") -> DiskFull:
    """The same in words.  ``what``: is kept there."""
    cure = _CURES.get(what, "system prune")
    return DiskFull(f"no space left for {what} in {root}: free some (swarmctl {cure}) or enlarge the disk")


class Digesting:
    """A read that takes the SHA-256 of all that passes, and stops what is longer than ``limit`` bytes."""

    def __init__(self, read: Read, limit: int | None = None) -> None:
        self._read = read
        self._hash = hashlib.sha256()
        self._limit = limit
        self.count = 0

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes, empty at the end; raises :class:`Invalid` beyond the limit."""
        piece = self._read(count)
        self._hash.update(piece)
        self.count += len(piece)
        if self._limit is not None and self.count > self._limit:
            raise Invalid(f"the stream is longer than the {self._limit} bytes it may have")
        return piece

    def digest(self) -> str:
        """``sha256:<hex>`` of what passed so far."""
        return f"sha256:{self._hash.hexdigest()}"


class LayerSource:
    """A layer blob being read: ``read`` gives the plain tar; both digests are taken on the way.

    A context manager.  The blob is read, decompressed and hashed in a thread of its own, while the caller
    works on what came out: about as much work on each side, so that two cores are busy.
    """

    def __init__(self, file: Readable, limit: int) -> None:
        self._blob = Digesting(file.read, limit)
        plain, self.compression = decoded(self._blob.read)
        # Of a layer that is not compressed the two digests are one: it is taken once.
        self._plain = Digesting(plain, limit) if self.compression else self._blob
        self._ahead = Ahead(self._plain.read if self.compression else plain)
        self._buffer = Buffered(self._ahead.read)
        self.read: Read = self._buffer.read

    def __enter__(self) -> LayerSource:
        self._ahead.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ahead.__exit__(kind, error, trace)

    def finish(self) -> tuple[str, int, str]:
        """Read what is left; answer the blob's digest and size, and the diffID."""
        while self._buffer.read(CHUNK):
            pass
        while self._blob.read(CHUNK):
            pass
        return self._blob.digest(), self._blob.count, self._plain.digest()
