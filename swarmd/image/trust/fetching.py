"""Signatures of an image that its own registry keeps: under cosign's tag, and as referrers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from swarmd.image.trust.core import artifact, simple_signing
from swarmd.image.trust.core.artifact import Signature
from swarmd.model.errors import Invalid, NotFound
from swarmd.model.image_ref import ImageRef

MOST = 10
"""Manifests of signatures that are looked at."""


class Entry(Protocol):
    """What a list of referrers says of one."""

    @property
    def digest(self) -> str: ...


class Registry(Protocol):
    """A client of registries; raises NotFound, Denied, Unavailable, Invalid."""

    async def get_manifest(self, ref: ImageRef, reference: str) -> tuple[str, bytes]: ...

    async def get_blob(self, ref: ImageRef, digest: str, *, limit: int) -> bytes: ...

    async def referrers(self, ref: ImageRef, digest: str, artifact_type: str) -> Sequence[Entry]: ...


async def signatures(registry: Registry, ref: ImageRef) -> tuple[Signature, ...]:
    """All that the registry has of ``ref.digest``; whether they count is for others to say.

    Raises what the registry raises, but for what is not there or cannot be read.
    """
    about = await registry.referrers(ref, ref.digest, artifact.ARTIFACT)
    found: dict[Signature, None] = {}
    for reference in (artifact.tag_of(ref.digest), *(one.digest for one in about[:MOST])):
        try:
            _, data = await registry.get_manifest(ref, reference)
            blobs = {
                digest: await registry.get_blob(ref, digest, limit=simple_signing.MOST)
                for digest in artifact.wanted(data)
            }
            found |= dict.fromkeys(artifact.read(data, blobs.get))
        except (NotFound, Invalid):
            continue
    return tuple(found)
