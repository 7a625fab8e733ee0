"""What the registry knows of pushes under way, for after a restart: uploads, and blobs no manifest needs yet.

A file, replaced at each change, synced never: a lost one costs clients a transfer, nothing else.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from swarmd.image.registry import remembered


class Begun(msgspec.Struct, frozen=True):
    """An upload whose first bytes are here, in the unfinished blob ``ingest``."""

    repository: str
    algorithm: str
    ingest: str


class Linked(msgspec.Struct, frozen=True):
    """A blob that came into a repository ``at`` that time (seconds since 1970)."""

    repository: str
    digest: str
    at: float


class _Kept(msgspec.Struct):
    uploads: dict[str, Begun] = {}
    links: list[Linked] = []


class Journal:
    """In the file ``path``; without one all of it ends with the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._kept = remembered.read(path, _Kept, _Kept())

    @property
    def is_kept(self) -> bool:
        """Whether a later process will know it."""
        return self._path is not None

    def uploads(self) -> dict[str, Begun]:
        """By key."""
        return dict(self._kept.uploads)

    def links(self) -> list[Linked]:
        """In the order in which they came."""
        return list(self._kept.links)

    def begun(self, key: str, upload: Begun) -> None:
        """An upload has its first bytes."""
        self._kept.uploads[key] = upload
        self._save()

    def ended(self, *keys: str) -> None:
        """Uploads are over.  Written with the next change: one that is not there any more is not found."""
        for key in keys:
            self._kept.uploads.pop(key, None)

    def linked(self, links: list[Linked]) -> None:
        """These are all."""
        self._kept.links = links
        self._save()

    def _save(self) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                remembered.write(self._path, self._kept)
