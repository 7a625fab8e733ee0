"""Layers and archives made up for the tests of the image store."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from swarmd.image.core.manifest import sha256
from swarmd.image.core.rules import Limits
from swarmd.image.store import ImageStore
from swarmd.model.errors import Unavailable

Member = tuple[tarfile.TarInfo, bytes]


class StillClock:
    """Time that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def nobody(digest: str) -> list[str]:
    return []


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **fields: Any) -> Member:
    return entry(name, b"", tarfile.DIRTYPE, **fields)


async def pieces_of(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


def symlink(name: str, target: str) -> Member:
    return entry(name, b"", tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Member:
    return entry(name, b"", tarfile.LNKTYPE, linkname=target)


def pack(*members: Member) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def configuration(*layers: bytes, **run: Any) -> bytes:
    return json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2018-01-01T00:00:00Z", "config": run,
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
    }).encode()  # fmt: skip


def archive(name: str, *layers: bytes, squeeze: Callable[[bytes], bytes] = bytes, **run: Any) -> bytes:
    """A docker-archive with these layers (plain tars), each through ``squeeze``."""
    manifest = [{"Config": "c.json", "RepoTags": [name] if name else None,
                 "Layers": [f"{number}/layer.tar" for number in range(len(layers))]}]  # fmt: skip
    files = [entry(f"{number}/layer.tar", squeeze(layer)) for number, layer in enumerate(layers)]
    files += [
        entry("c.json", configuration(*layers, **run)),
        entry("manifest.json", json.dumps(manifest).encode()),
    ]
    return pack(*files)


def leftovers(root: Path) -> list[str]:
    """Everything in the store that is no directory of its own."""
    names = [path for place in ("work", "trash", "layers", "ingest") for path in (root / place).iterdir()]
    blobs = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(root)) for path in (*names, *blobs))


def snapshot(tree: Path) -> dict[str, tuple[Any, ...]]:
    """Kind, mode, owner, group and content (target, device number) of everything below ``tree``."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in tree.rglob("*"):
        seen = path.lstat()
        about: tuple[Any, ...] = (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid)
        if path.is_symlink():
            about = ("link", *about, os.readlink(path))
        elif path.is_dir():
            about = ("dir", *about)
        elif path.is_file():
            about = ("file", *about, path.read_bytes())
        else:
            about = (stat.S_IFMT(seen.st_mode), *about, seen.st_rdev)
        found[str(path.relative_to(tree))] = about
    return found


@contextlib.contextmanager
def merged(view: Path, *lowers: Path, upper: Path | None = None) -> Iterator[Path]:
    """``lowers``, topmost first, as overlayfs shows them; writable with ``upper``."""
    view.mkdir()
    options = "lowerdir=" + ":".join(str(each) for each in lowers)
    if upper is not None:
        work = upper.with_name("overlay-work")
        work.mkdir()
        options += f",upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(view)], check=True)
    try:
        yield view
    finally:
        subprocess.run(["umount", str(view)], check=True)


async def opened(root: Path, limits: Limits | None = None) -> ImageStore:
    """A store in ``root``, under a clock that stands still."""
    store = ImageStore(root, StillClock(), limits)
    await store.open()
    return store


async def prepared(store: ImageStore, *layers: bytes) -> list[Path]:
    """The unpacked trees of an image with these layers, bottom first."""
    await store.load(io.BytesIO(archive("test:1", *layers)))
    rootfs = await store.prepare("test:1")
    return [Path(layer) for layer in reversed(rootfs.layers)]


LAYERS = (pack(entry("base", os.urandom(9000))), pack(entry("top", os.urandom(9000))))


class Peer:
    """A store that gives its image away, with the faults a test asks for."""

    def __init__(self, store: ImageStore, ref: str) -> None:
        self.store = store
        self.ref = ref
        self.asked: list[tuple[str, int]] = []
        self.cut = 0
        self.fail_at = -1
        self.swap: dict[str, bytes] = {}

    async def manifest(self) -> bytes:
        return self.store.manifest(self.ref)

    async def blob(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        self.asked.append((digest, offset))
        data = self.swap.get(digest) or self.store.blob_path(digest).read_bytes()
        end = min(len(data), offset + self.cut) if self.cut else len(data)
        for at in range(offset, end, 1000):
            if self.fail_at == 0:
                raise Unavailable("the peer is gone")
            self.fail_at -= 1
            yield data[at : min(end, at + 1000)]
        if end < len(data):
            raise Unavailable("connection lost")
