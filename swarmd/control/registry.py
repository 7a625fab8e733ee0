"""The swarm's registry on the replicated store: a push is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from swarmd.control.again import insist
from swarmd.control.core import registry as rules
from swarmd.control.core.registry import Entry, as_stored, manifest_id, tag_id
from swarmd.image.registry.port import Stored
from swarmd.kit.clock import Clock
from swarmd.model.errors import Conflict, NotFound, OutOfSequence
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import RegistryManifest, RegistryTag
from swarmd.store.core.transaction import Change
from swarmd.store.store import Store


class Spread(Protocol):
    """Has blobs on enough managers; raises Unavailable when that cannot be."""

    async def __call__(self, digests: Sequence[str], *, holder: str) -> None: ...


class Registry:
    """Reads answer from this manager's copy; changes are made on the leader.

    ``domains``: of references that mean this registry.  ``spread``: before a manifest is kept.
    """

    def __init__(self, store: Store, clock: Clock, *, domains: Collection[str], spread: Spread) -> None:
        self._store = store
        self._clock = clock
        self.domains = self._domains = domains
        self._spread = spread

    # reading

    def find(self, repository: str, reference: str) -> Stored | None:
        """By tag or digest; ``data`` is empty when it is kept as a blob."""
        row = self._row(repository, reference)
        return as_stored(row) if row is not None else None

    def tags(self, repository: str) -> list[str] | None:
        """Sorted; None when there is no such repository."""
        tags = sorted(row.tag for row in self._tags(repository))
        return tags if tags or self._store.in_repository(repository) else None

    def referrers(self, repository: str, digest: str) -> list[Stored]:
        """Manifests about that one, the oldest first."""
        rows = self._store.referrers(repository, digest)
        return [as_stored(row) for row in sorted(rows, key=lambda row: (row.created_at, row.digest))]

    def repositories(self) -> list[str]:
        """Sorted."""
        return sorted({row.repository for row in self._store.all(RegistryManifest)})

    def holds(self, repository: str, digest: str) -> bool:
        """Whether a manifest of the repository refers to that blob, or is it."""
        rows = self._store.in_repository(repository)
        return any(digest == row.digest or digest in row.blobs for row in rows)

    def entries(self, repository: str) -> list[Entry]:
        """For a list; "" = of all repositories.  Raises NotFound for one that is not there."""
        if not repository:
            return rules.entries(self._store.all(RegistryManifest), self._store.all(RegistryTag))
        name = rules.named(repository, self._domains).repository
        rows = self._store.in_repository(name)
        if not rows:
            raise NotFound(f"repository {name} not found in the swarm's registry")
        return rules.entries(rows, self._tags(name))

    def digest_of(self, ref: ImageRef) -> str:
        """What a reference to this registry means now; "" for another registry's, or what is not there."""
        repository = rules.repository_of(ref, self._domains)
        row = self._row(repository, ref.digest or ref.tag) if repository else None
        return row.digest if row is not None else ""

    # changing

    async def put(
        self,
        repository: str,
        manifest: Stored,
        tags: tuple[str, ...],
        *,
        holder: str,
        present: Sequence[str] = (),
    ) -> None:
        """Keep a manifest, and point tags to it, once ``present``, which ``holder`` has, is on managers.

        Raises Unavailable when they cannot be brought there.
        """
        await self._spread(present, holder=holder)

        def changes() -> list[Change]:
            return rules.put(
                repository,
                manifest,
                tags,
                row=self._store.get(RegistryManifest, manifest_id(repository, manifest.digest)),
                tag_of=lambda tag: self._store.get(RegistryTag, tag_id(repository, tag)),
                manifest_of=lambda digest: self._store.get(RegistryManifest, manifest_id(repository, digest)),
                about=len(self._store.referrers(repository, manifest.subject)) if manifest.subject else 0,
                now=self._clock.now(),
            )

        await self._commit(changes)

    async def delete_tag(self, repository: str, tag: str) -> bool:
        """Whether it was there.  The manifest stays."""
        return await self._remove(lambda: ((), self._tag(repository, tag)))

    async def delete(self, repository: str, digest: str) -> bool:
        """A manifest with all its tags; whether it was there."""
        return await self._remove(lambda: self._manifest_and_tags(repository, digest))

    async def remove(self, ref: str) -> tuple[list[str], list[str]]:
        """What a user names: (tags, manifests) that are gone.

        A tag goes with its manifest when that has no other one and nothing refers to it.  Raises NotFound.
        """
        found = rules.named(ref, self._domains)
        gone: tuple[Collection[RegistryManifest], Collection[RegistryTag]] = ((), ())

        def what() -> tuple[Collection[RegistryManifest], Collection[RegistryTag]]:
            nonlocal gone
            if found.digest:
                gone = self._manifest_and_tags(found.repository, found.digest)
            elif found.tag:
                gone = self._with_last_tag(found.repository, found.tag)
            else:
                gone = (list(self._store.in_repository(found.repository)), self._tags(found.repository))
            return gone

        if not await self._remove(what):
            raise NotFound(f"{ref} not found in the swarm's registry")
        rows, tags = gone
        return sorted(tag.id for tag in tags), sorted(row.id for row in rows)

    async def _remove(
        self, what: Callable[[], tuple[Collection[RegistryManifest], Collection[RegistryTag]]]
    ) -> bool:
        found = False

        def changes() -> list[Change]:
            nonlocal found
            rows, tags = what()
            found = bool(rows or tags)
            return rules.removal(rows, tags)

        await self._commit(changes)
        return found

    async def _commit(self, changes: Callable[[], list[Change]]) -> None:
        async def attempt() -> None:
            try:
                await self._store.commit(changes())
            except Conflict as error:  # a row that was not there a moment ago
                raise OutOfSequence(str(error)) from error

        await insist(attempt)

    def _row(self, repository: str, reference: str) -> RegistryManifest | None:
        if ":" not in reference:
            tag = self._store.get(RegistryTag, tag_id(repository, reference))
            reference = tag.digest if tag is not None else ""
        return self._store.get(RegistryManifest, manifest_id(repository, reference))

    def _tags(self, repository: str) -> list[RegistryTag]:
        return list(self._store.tags_in(repository))

    def _tag(self, repository: str, tag: str) -> list[RegistryTag]:
        row = self._store.get(RegistryTag, tag_id(repository, tag))
        return [row] if row is not None else []

    def _manifest_and_tags(
        self, repository: str, digest: str
    ) -> tuple[list[RegistryManifest], list[RegistryTag]]:
        row = self._store.get(RegistryManifest, manifest_id(repository, digest))
        if row is None:
            return [], []
        return [row], [tag for tag in self._tags(repository) if tag.digest == digest]

    def _with_last_tag(self, repository: str, tag: str) -> tuple[list[RegistryManifest], list[RegistryTag]]:
        row = self._store.get(RegistryTag, tag_id(repository, tag))
        if row is None:
            return [], []
        rows, tags = self._manifest_and_tags(repository, row.digest)
        needed = any(row.digest in one.blobs for one in self._store.in_repository(repository))
        return ([], [row]) if len(tags) > 1 or needed else (rows, [row])
