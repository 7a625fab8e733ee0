"""What the registry asks of whoever keeps its names: manifests and tags, by repository."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Stored(msgspec.Struct, frozen=True):
    """A manifest or index as it was pushed.

    ``blobs``: everything it refers to; ``subject``: the manifest it is about, empty for none;
    ``annotations``: of one with a subject, for lists.
    """

    digest: str
    media_type: str
    data: bytes
    blobs: tuple[str, ...] = ()
    subject: str = ""
    artifact_type: str = ""
    annotations: dict[str, str] = {}


class Names(Protocol):
    """Durable when a call returns, and the same for whoever asks next, on any manager.

    All raise Unavailable while the swarm cannot decide.
    """

    async def find(self, repository: str, reference: str) -> Stored | None:
        """By tag or digest."""
        ...

    async def put(self, repository: str, manifest: Stored, tags: tuple[str, ...] = ()) -> None:
        """Keep a manifest whose blobs are stored, and point ``tags`` to it."""
        ...

    async def delete_tag(self, repository: str, tag: str) -> bool:
        """Whether it was there."""
        ...

    async def delete(self, repository: str, digest: str) -> bool:
        """A manifest with all its tags; whether it was there."""
        ...

    async def tags(self, repository: str) -> list[str] | None:
        """Sorted; None when there is no such repository."""
        ...

    async def referrers(self, repository: str, digest: str) -> list[Stored]:
        """Manifests about that one, in a stable order."""
        ...

    async def repositories(self) -> list[str]:
        """Sorted."""
        ...

    async def holds(self, repository: str, digest: str) -> bool:
        """Whether some manifest of the repository refers to that blob."""
        ...
