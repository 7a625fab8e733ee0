"""An image store on a plain directory, for tests of the way to registries and back."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from swarmd.image.core.catalog import ImageInfo
from swarmd.image.core.manifest import read_manifest
from swarmd.image.registry.core.documents import OCI_MANIFEST, digest_of
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, NotFound

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class LeapingClock:
    """Time that moves only when somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class ShelfIngest:
    """A file that grows; a second one of the same key goes on with it."""

    def __init__(self, shelf: ShelfContent, key: str, algorithm: str) -> None:
        self.key = key
        self._shelf = shelf
        self._algorithm = algorithm
        self._path = shelf.root / f"ingest-{key}"
        self._path.touch()

    @property
    def offset(self) -> int:
        return self._path.stat().st_size

    async def write(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(data)

    async def commit(self, digest: str = "") -> tuple[str, int]:
        data = self._path.read_bytes()
        self._path.unlink()
        found = f"{self._algorithm}:{hashlib.new(self._algorithm, data).hexdigest()}"
        if digest and found != digest:
            raise Invalid(f"blob {digest} is damaged: its content is {found}")
        self._shelf.blob(found).write_bytes(data)
        return found, len(data)

    async def cancel(self) -> None:
        self._path.unlink(missing_ok=True)


class ShelfContent:
    """Blobs as files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.begun = 0
        root.mkdir(parents=True, exist_ok=True)

    def blob(self, digest: str) -> Path:
        return self.root / digest.replace(":", "-")

    def has(self, digest: str) -> bool:
        return self.blob(digest).exists()

    def path(self, digest: str) -> Path:
        if not self.has(digest):
            raise NotFound(f"No such blob: {digest}")
        return self.blob(digest)

    def size(self, digest: str) -> int:
        return self.path(digest).stat().st_size

    async def put(self, data: bytes, digest: str = "") -> str:
        found = digest_of(data)
        if digest and found != digest:
            raise Invalid("it is another")
        self.blob(found).write_bytes(data)
        return found

    async def ingest(self, key: str = "", *, algorithm: str = "sha256") -> ShelfIngest:
        if key and not (self.root / f"ingest-{key}").exists():
            raise NotFound(f"no ingest {key}")
        self.begun += not key
        return ShelfIngest(self, key or f"{algorithm}-{self.begun}", algorithm)

    async def give_back(self, digests: Iterable[str]) -> None:
        """Nothing is collected here."""

    def leave(self, digests: Iterable[str], *, after: float = 0.0) -> None:
        """Nothing is collected here."""

    @contextlib.contextmanager
    def holding(self, digests: Iterable[str]) -> Iterator[None]:
        yield


class Shelf:
    """Images by name."""

    def __init__(self, root: Path) -> None:
        self.content = ShelfContent(root)
        self.names: dict[str, str] = {}
        self.indexes: list[bytes] = []
        self.prepared: list[str] = []

    def list(self) -> list[ImageInfo]:
        return [self.resolve(name) for name in self.names]

    def resolve(self, ref_or_id: str) -> ImageInfo:
        name = image_ref.parse(ref_or_id).familiar()
        if name not in self.names:
            raise NotFound(f"No such image: {name}")
        digest = self.names[name]
        manifest = read_manifest(self.manifest(digest))
        return ImageInfo(id=manifest.config.digest, digest=digest, refs=(name,), created=0.0, size=0)

    def manifest(self, ref_or_digest: str) -> bytes:
        return self.content.path(ref_or_digest).read_bytes()

    async def add(
        self, manifest: bytes, refs: tuple[str, ...] = (), *, index: bytes | None = None
    ) -> ImageInfo:
        digest = await self.content.put(manifest)
        self.names.update(dict.fromkeys(refs, digest))
        if index is not None:
            self.indexes.append(index)
        return self.resolve(refs[0])

    async def prepare(self, ref_or_digest: str) -> None:
        self.prepared.append(ref_or_digest)

    async def have(self, name: str, *layers: bytes) -> bytes:
        """An image of these plain layers; answers its manifest."""
        manifest, blobs = image(*layers)
        for blob in blobs:
            await self.content.put(blob)
        await self.add(manifest, (name,))
        return manifest


def image(
    *layers: bytes, arch: str = "amd64", media_type: str = OCI_MANIFEST, **more: Any
) -> tuple[bytes, list[bytes]]:
    """(manifest, blobs) of an image made of plain layers."""
    packed = [gzip.compress(layer, mtime=0) for layer in layers]
    config = json.dumps(
        {
            "architecture": arch,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    ).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(config, CONFIG),
        "layers": [descriptor(blob, LAYER) for blob in packed],
        **more,
    }
    return json.dumps(document).encode(), [config, *packed]


def descriptor(blob: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(blob), "size": len(blob), **more}
