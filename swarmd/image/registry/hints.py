"""What is remembered between pulls and pushes: where blobs are, and which ones are half here.

A file of hints: a wrong or a lost one costs a transfer, nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from swarmd.image.registry import remembered

_MOST = 4096
_EACH = 3


class _Kept(msgspec.Struct):
    sources: dict[str, list[str]] = {}
    unfinished: dict[str, str] = {}


class Hints:
    """In the file ``path``; without one they end with the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._kept = remembered.read(path, _Kept, _Kept())

    def sources(self, digest: str, host: str, *, but: str) -> list[str]:
        """Repositories of ``host`` that held the blob, the latest first, without ``but``."""
        found = (text.partition("/") for text in self._kept.sources.get(digest, ()))
        return [path for where, _, path in found if where == host and path != but]

    def found(self, digests: Iterable[str], host: str, repository: str) -> None:
        """A repository holds these blobs."""
        name, known = f"{host}/{repository}", self._kept.sources
        for digest in digests:
            others = [text for text in known.pop(digest, ()) if text != name]
            known[digest] = [name, *others][:_EACH]
        _shorten(known)
        self._save()

    def unfinished(self, digest: str) -> str:
        """The key of what is here of a blob; empty for none."""
        return self._kept.unfinished.get(digest, "")

    def begun(self, digest: str, key: str) -> None:
        """A blob is on its way in under that key."""
        self._kept.unfinished[digest] = key
        _shorten(self._kept.unfinished)
        self._save()

    def ended(self, digest: str) -> None:
        """It is here, or thrown away."""
        self._kept.unfinished.pop(digest, None)

    def _save(self) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                remembered.write(self._path, self._kept)


def _shorten(known: dict[str, list[str]] | dict[str, str]) -> None:
    while len(known) > _MOST:
        del known[next(iter(known))]  # the oldest: dictionaries keep their order
