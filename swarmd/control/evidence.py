"""Where evidence about images comes from and is kept: small blobs of a manager, registries outside."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

from swarmd.image.trust.core import artifact
from swarmd.image.trust.core.artifact import Signature
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import RegistryManifest, RegistryTag
from swarmd.store.store import Store

Blob = Callable[[str], Awaitable[bytes | None]]
"""A small blob of this manager by digest; None when it is not here."""

Keep = Callable[[bytes], Awaitable[object]]
"""Puts a small blob where the registry gives it to others."""


Holding = Callable[[Iterable[str]], contextlib.AbstractContextManager[None]]
"""Blobs that nobody collects meanwhile."""


async def no_blob(digest: str) -> bytes | None:
    """For a manager without contents."""
    return None


async def kept_elsewhere(data: bytes) -> None:
    """The same."""
    return


Outside = Callable[[ImageRef], Awaitable[Sequence[Signature]]]
"""Signatures that an image's own registry has; raises SwarmError."""


async def nothing_outside(ref: ImageRef) -> Sequence[Signature]:
    """For a manager that asks no registry."""
    return ()


def nobody_collects(digests: Iterable[str]) -> contextlib.AbstractContextManager[None]:
    """The same."""
    return contextlib.nullcontext()


def manifests_about(store: Store, repository: str, digest: str) -> list[RegistryManifest]:
    """Manifests about an image: what cosign's tag names, and then all referrers."""
    about = {row.id: row for row in store.referrers(repository, digest)}
    tag = store.get(RegistryTag, f"{repository}:{artifact.tag_of(digest)}")
    row = store.get(RegistryManifest, f"{repository}@{tag.digest}") if tag is not None else None
    first = [row] if row is not None else []
    return [*first, *(about[row_id] for row_id in sorted(about) if row is None or row_id != row.id)]
