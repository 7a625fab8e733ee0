"""Where evidence about images comes from and is kept: small blobs of a manager, registries outside."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

from swarmd.image.trust.core.artifact import Signature
from swarmd.model.image_ref import ImageRef

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
