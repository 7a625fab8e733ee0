"""Compressed streams, found by their first bytes: gzip, zstd, xz, bzip2.  Blocking; for threads.

gzip goes through isal where it is installed (twice the speed inflating, ten times deflating), else zlib.
"""

from __future__ import annotations

import bz2
import contextlib
import importlib
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from swarmd.image.core.archive import compression_of
from swarmd.image.core.tar import CHUNK, Read
from swarmd.model.errors import Invalid

_gzip: Any = zlib
with contextlib.suppress(ImportError):
    _gzip = importlib.import_module("isal.isal_zlib")
_zstd: Any = None
for _name in ("compression.zstd", "backports.zstd"):
    with contextlib.suppress(ImportError):
        _zstd = importlib.import_module(_name)
        break
_GZIP_WBITS = 31
_LEVEL = 2 if _gzip is not zlib else 1  # of about the same size
_PIECE = 2 << 20  # compressed bytes taken at a time: what is left of them is copied for each piece
_MAX_XZ_MEMORY = 256 << 20
_FREE = 1 << 30
_RATIO = 1100  # deflate reaches 1032
_MAX_ZSTD_WINDOW = 27  # as the zstd program: 128 MiB


class Compressor(Protocol):
    """Bytes in, compressed bytes out."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def gzipper() -> Compressor:
    """A gzip stream without name and time; fed alike, it gives the same bytes."""
    made: Compressor = _gzip.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
    return made


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
        self._member = _gzip.decompressobj(wbits=_GZIP_WBITS)
        self._input = b""
        self._begun = False

    def read(self, count: int) -> bytes:
        while True:
            if self._member.eof and not self._next_member():
                return b""
            data = self._member.unconsumed_tail or self._input or self._read(_PIECE)
            self._input = b""
            if not data:
                if not self._begun:
                    return b""
                raise Invalid("the gzip stream is cut short")
            self._begun = True
            try:
                piece: bytes = self._member.decompress(data, count)
            except (zlib.error, _gzip.error) as error:
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
        self._member = _gzip.decompressobj(wbits=_GZIP_WBITS)
        self._input, self._begun = rest, False
        return True


class _Stream:
    """What decompresses a piece at a time, stream after stream (xz, bzip2, zstd)."""

    def __init__(
        self, read: Read, name: str, begin: Callable[[], Any], errors: tuple[type[Exception], ...]
    ) -> None:
        self._read = read
        self._name = name
        self._begin = begin
        self._errors = errors
        self._stream: Any = None

    def read(self, count: int) -> bytes:
        while True:
            data = self._next_input()
            if self._stream is None:
                return b""
            try:
                piece: bytes = self._stream.decompress(data, count)
            except self._errors as error:
                raise Invalid(f"the {self._name} stream is damaged: {error}") from error
            if piece:
                return piece

    def _next_input(self) -> bytes:
        """Bytes for the stream, which is begun if there is one more, and None at the end."""
        if self._stream is not None and not self._stream.eof:
            data = self._read(_PIECE) if self._stream.needs_input else b""
            if self._stream.needs_input and not data:
                raise Invalid(f"the {self._name} stream is cut short")
            return data
        rest: bytes = self._stream.unused_data if self._stream is not None else b""
        rest = rest.lstrip(b"\0") or self._read(_PIECE)
        self._stream = self._begin() if rest.strip(b"\0") else None
        return rest


def _unzstd(read: Read) -> _Stream:
    """Zstandard, when the interpreter or the backport has it."""
    module = _zstd
    if module is None:
        raise Invalid(
            "the stream is compressed with zstd, which needs the Python package backports.zstd; "
            "install it, or compress with gzip"
        )
    options = {module.DecompressionParameter.window_log_max: _MAX_ZSTD_WINDOW}
    return _Stream(
        read, "zstd", lambda: module.ZstdDecompressor(options=options), (module.ZstdError, EOFError)
    )


class _Capped:
    """Plain bytes, stopped where no honest compressor gets: a small stream must not fill the disk."""

    def __init__(self, read: Read) -> None:
        self._source = read
        self._fed = 0
        self._gave = 0
        self.plain: Read = read

    def feed(self, count: int) -> bytes:
        piece = self._source(count)
        self._fed += len(piece)
        return piece

    def read(self, count: int) -> bytes:
        piece = self.plain(count)
        self._gave += len(piece)
        if self._gave > _FREE + _RATIO * self._fed:
            raise Invalid(
                f"a compressed stream of {self._fed} bytes grows to more than {self._gave}: it is refused"
            )
        return piece


def decoded(read: Read) -> tuple[Callable[[int], bytes], str]:
    """A read of the plain bytes, and the compression found (``""``, ``gzip``, ``zstd``, ``xz``, ``bzip2``).

    Raises :class:`Invalid` for a compression that is not supported here.
    """
    capped = _Capped(read)
    source = Buffered(capped.feed)
    found = compression_of(source.peek(6))
    if found == "gzip":
        capped.plain = _Gunzip(source.read).read
    elif found == "zstd":
        capped.plain = _unzstd(source.read).read
    elif found == "xz":
        errors = (lzma.LZMAError,)
        capped.plain = _Stream(source.read, found, _xz, errors).read
    elif found == "bzip2":
        capped.plain = _Stream(source.read, found, bz2.BZ2Decompressor, (OSError,)).read
    return (capped.read if found else source.read), found


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_XZ_MEMORY)
