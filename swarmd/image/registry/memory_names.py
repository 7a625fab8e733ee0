"""Names kept in memory: for tests, and what the others are measured by."""

from __future__ import annotations

from swarmd.image.registry.port import Stored


class MemoryNames:
    """:class:`swarmd.image.registry.port.Names` of one process, gone with it."""

    def __init__(self) -> None:
        self._manifests: dict[str, dict[str, Stored]] = {}
        self._tags: dict[str, dict[str, str]] = {}

    async def find(self, repository: str, reference: str) -> Stored | None:
        digest = self._tags.get(repository, {}).get(reference, reference)
        return self._manifests.get(repository, {}).get(digest)

    async def put(self, repository: str, manifest: Stored, tags: tuple[str, ...] = ()) -> None:
        self._manifests.setdefault(repository, {})[manifest.digest] = manifest
        self._tags.setdefault(repository, {}).update(dict.fromkeys(tags, manifest.digest))

    async def delete_tag(self, repository: str, tag: str) -> bool:
        return self._tags.get(repository, {}).pop(tag, None) is not None

    async def delete(self, repository: str, digest: str) -> bool:
        if self._manifests.get(repository, {}).pop(digest, None) is None:
            return False
        tags = self._tags.get(repository, {})
        for tag in [tag for tag, target in tags.items() if target == digest]:
            del tags[tag]
        if not self._manifests[repository]:
            del self._manifests[repository]
            self._tags.pop(repository, None)
        return True

    async def tags(self, repository: str) -> list[str] | None:
        return sorted(self._tags.get(repository, {})) if repository in self._manifests else None

    async def referrers(self, repository: str, digest: str) -> list[Stored]:
        found = self._manifests.get(repository, {}).values()
        return sorted((each for each in found if each.subject == digest), key=lambda each: each.digest)

    async def repositories(self) -> list[str]:
        return sorted(self._manifests)

    async def holds(self, repository: str, digest: str) -> bool:
        return any(digest in each.blobs for each in self._manifests.get(repository, {}).values())
