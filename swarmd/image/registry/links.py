"""Blobs that came into a repository of this node and that no manifest there refers to yet."""

from __future__ import annotations

import contextlib

from swarmd.image.port import Content
from swarmd.image.registry.journal import Journal, Linked
from swarmd.kit.clock import Clock

KEPT = 24 * 3600.0
"""Seconds: a push of a large image takes hours on a slow line, and its first layers must not be collected."""


class Links:
    """Which repository has which blob, until a manifest says so.  What is here is not collected meanwhile."""

    def __init__(self, content: Content, clock: Clock, journal: Journal | None = None) -> None:
        self._content = content
        self._clock = clock
        self._journal = journal or Journal()
        self._held: dict[tuple[str, str], tuple[float, contextlib.ExitStack]] = {}
        for link in self._journal.links():
            self._hold(link.repository, link.digest, max(0.0, clock.now() - link.at))

    def add(self, repository: str, digest: str) -> None:
        """The blob, which is stored, belongs to the repository from now on."""
        self._hold(repository, digest, 0.0)
        self._note()

    def _hold(self, repository: str, digest: str, age: float) -> None:
        self._let_go(repository, digest)
        stack = contextlib.ExitStack()
        stack.enter_context(self._content.holding((digest,)))
        self._held[repository, digest] = (self._clock.monotonic() - age, stack)

    def _note(self) -> None:
        began = self._clock.now() - self._clock.monotonic()
        self._journal.linked([Linked(*key, at=began + added) for key, (added, _) in self._held.items()])

    def has(self, repository: str, digest: str) -> bool:
        return (repository, digest) in self._held and self._content.has(digest)

    def drop(self, repository: str, digest: str) -> bool:
        """Whether it was there."""
        found = self._let_go(repository, digest)
        if found:
            self._note()
        return found

    def _let_go(self, repository: str, digest: str) -> bool:
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
        """Let go of everything; what the journal has, the next process holds again."""
        for key in list(self._held):
            self._let_go(*key)
