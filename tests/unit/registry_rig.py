"""A registry without a daemon: names in memory, blobs in a folder, time that stands still."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

from swarmd.image.registry.exchange import Reply, Request
from swarmd.image.registry.intake import UploadLimits, Uploads
from swarmd.image.registry.links import Links
from swarmd.image.registry.memory_names import MemoryNames
from swarmd.image.registry.mirror import Mirror
from swarmd.image.registry.server import OnPushed, Registry, nowhere
from swarmd.model.errors import Invalid, NotFound

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sha512(data: bytes) -> str:
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


class StoppedClock:
    """Goes on only when a test says so."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class FolderIngest:
    def __init__(self, content: FolderContent, key: str, algorithm: str) -> None:
        self.key, self._content, self._algorithm = key, content, algorithm
        self._path = content.root / f"ingest-{key}"
        self._path.write_bytes(b"")

    @property
    def offset(self) -> int:
        return self._path.stat().st_size

    async def write(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(data)

    async def commit(self, digest: str = "") -> tuple[str, int]:
        data = self._path.read_bytes()
        self._path.unlink()
        algorithm = digest.partition(":")[0] or self._algorithm
        found = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if digest and digest != found:
            raise Invalid(f"the blob has the digest {found}, not {digest}")
        self._content.file(found).write_bytes(data)
        return found, len(data)

    async def cancel(self) -> None:
        self._path.unlink(missing_ok=True)


class FolderContent:
    """The port of a content store, over one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.held: Counter[str] = Counter()
        self._keys = itertools.count(1)

    def file(self, digest: str) -> Path:
        return self.root / digest.replace(":", "-")

    def has(self, digest: str) -> bool:
        return self.file(digest).exists()

    def path(self, digest: str) -> Path:
        if not self.has(digest):
            raise NotFound(f"No such blob: {digest}")
        return self.file(digest)

    def size(self, digest: str) -> int:
        return self.path(digest).stat().st_size

    async def put(self, data: bytes, digest: str = "") -> str:
        ingest = FolderIngest(self, str(next(self._keys)), digest.partition(":")[0] or "sha256")
        await ingest.write(data)
        return (await ingest.commit(digest))[0]

    async def ingest(self, key: str = "", *, algorithm: str = "sha256") -> FolderIngest:
        if key:
            raise NotFound(f"no unfinished blob {key}")
        return FolderIngest(self, str(next(self._keys)), algorithm)

    async def give_back(self, digests: Iterable[str]) -> None:
        """Nothing is collected here."""

    def leave(self, digests: Iterable[str], *, after: float = 0.0) -> None:
        """Nothing is collected here."""

    @contextlib.contextmanager
    def holding(self, digests: Iterable[str]) -> Iterator[None]:
        held = tuple(digests)
        self.held.update(held)
        try:
            yield
        finally:
            self.held.subtract(held)

    def blobs(self) -> set[str]:
        return {path.name for path in self.root.iterdir() if not path.name.startswith("ingest-")}

    def ingests(self) -> set[str]:
        return {path.name for path in self.root.iterdir() if path.name.startswith("ingest-")}


class Rig:
    """A registry and a client that speaks to it without a wire."""

    def __init__(
        self,
        root: Path,
        *,
        may_delete: bool = True,
        limits: UploadLimits | None = None,
        on_pushed: OnPushed | None = None,
        mirror: Mirror | None = None,
        ensure: Any = nowhere,
    ) -> None:
        root.mkdir(exist_ok=True)
        self.clock = StoppedClock()
        self.names = MemoryNames()
        self.content = FolderContent(root)
        ids = itertools.count(1)
        self.uploads = Uploads(self.content, self.clock, lambda: f"u{next(ids)}", limits)
        self.links = Links(self.content, self.clock)
        self.registry = Registry(
            self.names,
            self.content,
            self.uploads,
            self.links,
            ensure=ensure,
            mirror=mirror,
            on_pushed=on_pushed,
            may_delete=may_delete,
        )

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        streamed: bool = False,
    ) -> Reply:
        path, _, query = target.partition("?")
        pairs = tuple(
            (key, value) for key, _, value in (pair.partition("=") for pair in query.split("&") if pair)
        )

        async def pieces() -> AsyncIterator[bytes]:
            if body:
                yield body

        return await self.registry.handle(
            Request(
                method=method,
                path=path,
                query=pairs,
                headers={key.lower(): value for key, value in (headers or {}).items()},
                length=None if streamed else len(body),
                body=pieces,
            )
        )

    async def push_blob(self, repository: str, data: bytes, digest: str = "") -> str:
        digest = digest or sha256(data)
        reply = await self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        assert reply.status == 201, reply.body
        return digest

    async def push_image(self, repository: str, tag: str, layer: bytes = b"layer", **more: Any) -> str:
        """A config, a layer, and their manifest; answers its digest."""
        config = json.dumps({"layer": layer.decode()}).encode()
        for blob in (config, layer):
            await self.push_blob(repository, blob)
        raw = image_manifest(config, layer, **more)
        reply = await self.ask(
            "PUT", f"/v2/{repository}/manifests/{tag or sha256(raw)}", raw, headers={"Content-Type": MANIFEST}
        )
        assert reply.status == 201, reply.body
        return sha256(raw)


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


def image_manifest(config: bytes, *layers: bytes, media_type: str = MANIFEST, **more: Any) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(config, CONFIG),
            "layers": [descriptor(layer, LAYER) for layer in layers],
            **more,
        }
    ).encode()


def index_of(*manifests: bytes, **more: Any) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [descriptor(each, MANIFEST) for each in manifests],
            **more,
        }
    ).encode()


def header(reply: Reply, name: str) -> str:
    return next((value for key, value in reply.headers if key == name), "")


def code(reply: Reply) -> str:
    """The error code of a refusal."""
    return str(json.loads(reply.body)["errors"][0]["code"])


def content_of(reply: Reply) -> bytes:
    """What a client would get."""
    if reply.file is None:
        return reply.body
    return reply.file.read_bytes()[reply.part.offset : reply.part.offset + reply.part.size]
