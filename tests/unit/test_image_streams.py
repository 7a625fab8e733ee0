"""Compressed streams, digests taken in other threads, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib
import io
import lzma
import os
import threading
from collections.abc import Callable

import pytest

from swarmd.image import codecs
from swarmd.image.codecs import decoded, gzipper
from swarmd.image.core.manifest import sha256
from swarmd.image.pumps import AHEAD, Ahead, Pump
from swarmd.image.streams import LayerSource
from swarmd.model.errors import Invalid

DATA = os.urandom(300_000) + bytes(3 << 20) + b"end"
zstd = importlib.import_module("backports.zstd")

SQUEEZES: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def read_all(read: Callable[[int], bytes]) -> bytes:
    pieces = []
    while piece := read(1 << 20):
        assert len(piece) <= 1 << 20
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("name", SQUEEZES)
def test_a_stream_is_read_whatever_it_is_compressed_with(name: str) -> None:
    read, found = decoded(io.BytesIO(SQUEEZES[name](DATA)).read)
    assert (found, read_all(read) == DATA) == (name, True)


@pytest.mark.parametrize("name", [name for name in SQUEEZES if name])
def test_streams_one_after_another_are_one(name: str) -> None:
    squeeze = SQUEEZES[name]
    read, _ = decoded(io.BytesIO(squeeze(b"one") + squeeze(b"") + squeeze(b"two")).read)
    assert read_all(read) == b"onetwo"


@pytest.mark.parametrize("name", [name for name in SQUEEZES if name])
def test_a_stream_cut_short_or_damaged_is_refused(name: str) -> None:
    whole = SQUEEZES[name](DATA)
    with pytest.raises(Invalid, match="cut short"):
        read_all(decoded(io.BytesIO(whole[:-9]).read)[0])
    broken = whole[:10] + b"\xff" * 64 + whole[74:]
    with pytest.raises(Invalid, match="damaged"):
        read_all(decoded(io.BytesIO(broken).read)[0])


@pytest.mark.parametrize("name", ["zstd", "xz", "bzip2"])
def test_a_bomb_is_stopped_where_no_honest_stream_gets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_FREE", 1 << 20)
    read, _ = decoded(io.BytesIO(SQUEEZES[name](bytes(64 << 20))).read)
    with pytest.raises(Invalid, match="grows to more than"):
        read_all(read)


def test_gzip_is_the_same_for_the_same_pieces_and_has_no_name_or_time() -> None:
    made = []
    for _ in range(2):
        gz = gzipper()
        made.append(gz.compress(DATA) + gz.flush())
    assert made[0] == made[1]
    assert gzip.decompress(made[0]) == DATA
    assert made[0][3:8] == bytes(5)  # no name, no comment, no time


@pytest.mark.parametrize("name", ["", "gzip", "zstd"])
def test_a_layer_is_hashed_before_and_after_decompression(name: str) -> None:
    blob = SQUEEZES[name](DATA)
    with LayerSource(io.BytesIO(blob), 1 << 30) as source:
        assert source.read(10) == DATA[:10]
        assert source.finish() == (sha256(blob), len(blob), sha256(DATA))


def test_bytes_after_a_gzip_stream_count_for_the_digest_of_the_blob() -> None:
    blob = gzip.compress(b"data") + bytes(5000)
    with LayerSource(io.BytesIO(blob), 1 << 20) as source:
        assert source.finish() == (sha256(blob), len(blob), sha256(b"data"))


def test_an_error_of_the_source_reaches_the_reader_and_the_threads_end() -> None:
    before = set(threading.enumerate())
    cut = io.BytesIO(gzip.compress(DATA)[:-9])
    with pytest.raises(Invalid, match="cut short"), LayerSource(cut, 1 << 30) as source:
        source.finish()
    assert set(threading.enumerate()) <= before


def test_leaving_early_ends_the_threads() -> None:
    before = set(threading.enumerate())
    with Ahead(lambda count: bytes(count)) as ahead:
        ahead.read(1)
    with LayerSource(io.BytesIO(DATA * 5), 1 << 30) as source:
        source.read(1)
    assert set(threading.enumerate()) <= before


def test_a_pump_works_in_order_and_tells_what_went_wrong() -> None:
    digest = hashlib.sha256()
    with Pump(digest.update) as pump:
        for at in range(0, len(DATA), 1 << 16):
            pump.put(DATA[at : at + (1 << 16)])
    assert digest.digest() == hashlib.sha256(DATA).digest()

    def full(piece: bytes) -> None:
        raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        fed(full)


def fed(work: Callable[[bytes], None]) -> None:
    with Pump(work) as pump:
        for _ in range(AHEAD * 3):
            pump.put(b"x")
