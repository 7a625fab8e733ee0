"""What the parts that handle images ask of the content store.  Blobs are named by digest and never change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec


class Layer(msgspec.Struct, frozen=True):
    """A layer that is stored: ``digest`` and ``size`` (bytes) of the blob, ``diff_id`` of its plain tar."""

    digest: str
    diff_id: str
    size: int
    media_type: str = ""


class Ingest(Protocol):
    """A blob on its way in.  It survives a restart; nobody sees it before :meth:`commit`."""

    @property
    def key(self) -> str:
        """By which it is found again."""
        ...

    @property
    def offset(self) -> int:
        """Bytes that are there."""
        ...

    async def write(self, data: bytes) -> None:
        """Append.  Raises DiskFull: then it is gone, for what it took is needed."""
        ...

    async def commit(self, digest: str = "") -> tuple[str, int]:
        """The blob's digest and size; now it is stored, durably.

        Raises Invalid when it is not what ``digest`` says: then it is gone.
        """
        ...

    async def cancel(self) -> None:
        """Forget it."""
        ...


class Content(Protocol):
    """Blobs of a node.  Only whole, verified ones are ever seen."""

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        ...

    def path(self, digest: str) -> Path:
        """Its file, which is not to be changed.  Raises NotFound."""
        ...

    def size(self, digest: str) -> int:
        """Bytes.  Raises NotFound."""
        ...

    async def put(self, data: bytes, digest: str = "") -> str:
        """Store a small blob; answers its digest.  Raises Invalid when it is not what ``digest`` says."""
        ...

    async def ingest(self, key: str = "", *, algorithm: str = "sha256") -> Ingest:
        """Begin a blob, or go on with the unfinished one of that key.

        Raises NotFound for a key of none.
        """
        ...

    def holding(self, digests: Iterable[str]) -> contextlib.AbstractContextManager[None]:
        """Whatever is collected meanwhile: not these, whether they are here already or not."""
        ...

    async def give_back(self, digests: Iterable[str]) -> None:
        """Whoever brought these goes on with none of them: what nobody else needs is removed."""
        ...

    def leave(self, digests: Iterable[str], *, after: float = 0.0) -> None:
        """Whoever brought these does no more with them, in ``after`` seconds at the latest: they are spared
        for the next try, but not in a prune."""
        ...


class Progress(Protocol):
    """Told how work on images goes.  ``item``: a short digest or a step; ``total`` 0: not known."""

    def __call__(self, item: str, state: str, current: int = 0, total: int = 0) -> None: ...
