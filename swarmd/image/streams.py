"""Byte streams on the way to or from disk: decompression, digests, bounds.  Blocking; for threads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from swarmd.image.core.archive import compression_of
from swarmd.image.core.tar import CHUNK, Read
from swarmd.model.errors import Invalid, Unavailable

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Readable(Protocol):
    """Anything with a ``read``: a file, a pipe."""

    def read(self, count: int, /) -> bytes: ...


@contextlib.contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Tell a full disk in words: :class:`Unavailable`, naming the directory."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Unavailable(
            f"no space left for images in {root}: free some (swarmctl image prune) or enlarge the disk"
        ) from error


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


class Buffered:
    """Small reads out of big ones, with a look at the beginning."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._held = b""
        self._at = 0

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes without taking them; fewer only at the end."""
        while len(self._held) - self._at < count and (piece := self._read(CHUNK)):
            self._held, self._at = self._held[self._at :] + piece, 0
        return self._held[self._at : self._at + count]

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes, empty at the end."""
        if self._at == len(self._held):
            self._held, self._at = self._read(CHUNK), 0
        piece = self._held[self._at : self._at + count]
        self._at += len(piece)
        return piece


class _Gunzip:
    """Gzip with several members and zero padding, a bounded piece at a time."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._member = zlib.decompressobj(wbits=31)
        self._input = b""
        self._begun = False

    def read(self, count: int) -> bytes:
        while True:
            if self._member.eof and not self._next_member():
                return b""
            data = self._member.unconsumed_tail or self._input or self._read(CHUNK)
            self._input = b""
            if not data:
                if not self._begun:
                    return b""
                raise Invalid("the gzip stream is cut short")
            self._begun = True
            try:
                piece = self._member.decompress(data, count)
            except zlib.error as error:
                raise Invalid(f"the gzip stream is damaged: {error}") from error
            if piece:
                return piece

    def _next_member(self) -> bool:
        rest = self._member.unused_data.lstrip(b"\0")
        while not rest:
            piece = self._read(CHUNK)
            if not piece:
                return False
            rest = piece.lstrip(b"\0")
        self._member = zlib.decompressobj(wbits=31)
        self._input, self._begun = rest, False
        return True


class _Unzstd:
    """Zstandard, when the interpreter or the backport has it."""

    def __init__(self, read: Read) -> None:
        for name in ("compression.zstd", "backports.zstd"):
            with contextlib.suppress(ImportError):
                self._module = importlib.import_module(name)
                break
        else:
            raise Invalid(
                "the stream is compressed with zstd, which needs the Python package backports.zstd; "
                "install it, or compress with gzip"
            )
        self._file = self._module.ZstdFile(_AsFile(read))

    def read(self, count: int) -> bytes:
        try:
            return bytes(self._file.read(count))
        except (self._module.ZstdError, EOFError) as error:
            raise Invalid(f"the zstd stream is damaged: {error}") from error


class _AsFile:
    def __init__(self, read: Read) -> None:
        self._read = read

    def read(self, count: int = -1) -> bytes:
        return self._read(count if count > 0 else CHUNK)


def decoded(read: Read) -> tuple[Callable[[int], bytes], str]:
    """A read of the plain bytes, and the compression found (``""``, ``gzip``, ``zstd``).

    Raises :class:`Invalid` for a compression that is not supported.
    """
    source = Buffered(read)
    found = compression_of(source.peek(6))
    if found == "gzip":
        return _Gunzip(source.read).read, found
    if found == "zstd":
        return _Unzstd(source.read).read, found
    if found:
        raise Invalid(f"the stream is compressed with {found}, which is not supported; use gzip")
    return source.read, ""


class LayerSource:
    """A layer blob being read: ``read`` gives the plain tar; both digests are taken on the way."""

    def __init__(self, file: Readable, limit: int) -> None:
        self._blob = Digesting(file.read, limit)
        plain, self.compression = decoded(self._blob.read)
        # Of a layer that is not compressed the two digests are one: it is taken once.
        self._plain = Digesting(plain, limit) if self.compression else self._blob
        self._buffer = Buffered(self._plain.read if self.compression else plain)
        self.read: Read = self._buffer.read

    def finish(self) -> tuple[str, int, str]:
        """Read what is left; answer the blob's digest and size, and the diffID."""
        while self._buffer.read(CHUNK):
            pass
        while self._blob.read(CHUNK):
            pass
        return self._blob.digest(), self._blob.count, self._plain.digest()
