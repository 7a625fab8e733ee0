"""A node's side of the tests against a scripted registry."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from swarmd.image.registry.client import RegistryClient
from swarmd.image.registry.core import documents
from swarmd.image.registry.core.auth import Credential
from swarmd.image.registry.core.documents import digest_of
from swarmd.image.registry.core.names import Settings
from swarmd.image.registry.hints import Hints
from tests.unit.registry_shelf import LeapingClock, Shelf, image
from tests.unit.scripted_registry import Answer, Asked, Holding, ScriptedRegistry, registry

LAYER = bytes(range(256)) * 3000


class Bench:
    """A node's shelf and client beside an honest registry, which a test may corrupt."""

    def __init__(self, there: ScriptedRegistry, holding: Holding, root: Path) -> None:
        self.there, self.holding = there, holding
        self.shelf = Shelf(root / "blobs")
        self.clock = LeapingClock()
        self.said: list[str] = []
        self.root = root
        self.credential: Credential | None = None
        self.settings = Settings()
        self.client = self.new_client()

    def new_client(self) -> RegistryClient:
        hints = Hints(self.root / "hints.json")
        return RegistryClient(
            self.shelf, self.settings, self.clock, who=self._who, fraction=lambda: 0.5, hints=hints
        )

    async def _who(self, host: str) -> Credential | None:
        return self.credential

    def name(self, rest: str) -> str:
        return f"{self.there.host}/{rest}"

    def publish(self, *layers: bytes, tag: str = "1", **more: Any) -> bytes:
        """An image in the registry; answers its manifest."""
        manifest, blobs = image(*layers, **more)
        self.holding.blobs |= {digest_of(blob): blob for blob in blobs}
        for name in (tag, digest_of(manifest)):
            self.holding.manifests[name] = (documents.OCI_MANIFEST, manifest)
        return manifest

    def misbehave(self, how: Callable[[Asked], Answer | None]) -> None:
        """``how`` answers first; None leaves it to the honest one."""
        self.there.behave = lambda asked: how(asked) or self.holding(asked)

    def listen(self, item: str, state: str, current: int = 0, total: int = 0) -> None:
        if not total:
            self.said.append(f"{item}: {state}" if item else state)

    async def pull(self, rest: str = "app:1", **more: Any) -> str:
        return (await self.client.pull(self.name(rest), progress=self.listen, **more)).digest


@contextlib.asynccontextmanager
async def benched(holding: Holding, root: Path) -> AsyncIterator[Bench]:
    """One with its registry."""
    async with registry(holding) as there:
        made = Bench(there, holding, root)
        try:
            yield made
        finally:
            await made.client.close()


def blob_asked(asked: Asked) -> bool:
    return asked.method == "GET" and "/blobs/" in asked.path
