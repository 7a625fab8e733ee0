"""Blobs that came into a repository of this node and that no manifest there refers to yet."""

from __future__ import annotations

import contextlib

from swarmd.image.port import Content
from swarmd.kit.clock import Clock

KEPT = 24 * 3600.0
"""Seconds: a push of a large image takes hours on a slow line, and its first layers must not be collected."""


class Links:
    """Which repository has which blob, until a manifest says so.  What is here is not collected meanwhile."""

    def __init__(self, content: Content, clock: Clock) -> None:
        self._content = content
        self._clock = clock
        self._held: dict[tuple[str, str], tuple[float, contextlib.ExitStack]] = {}

    def add(self, repository: str, digest: str) -> None:
        """The blob, which is stored, belongs to the repository from now on."""
        self.drop(repository, digest)
        stack = contextlib.ExitStack()
        stack.enter_context(self._content.holding((digest,)))
        self._held[repository, digest] = (self._clock.monotonic(), stack)

    def has(self, repository: str, digest: str) -> bool:
        return (repository, digest) in self._held and self._content.has(digest)

    def drop(self, repository: str, digest: str) -> bool:
        """Whether it was there."""
        found = self._held.pop((repository, digest), None)
        if found is None:
            return False
        found[1].close()
        return True

    def expire(self) -> None:
        """Let go of what nobody referred to for a day."""
        since = self._clock.monotonic() - KEPT
        for key in [key for key, (added, _) in self._held.items() if added < since]:
            self.drop(*key)

    def close(self) -> None:
        """Let go of everything."""
        for key in list(self._held):
            self.drop(*key)
