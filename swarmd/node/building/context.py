"""A build context on its way from a client: its list first, files when somebody needs them.

::

    list ──► keys of COPY (digests are in the list) ──► what the cache lacks ──► ask the client ──► spool

Asyncio; the tree itself is read in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec

from swarmd.image.build.core.context import Listing
from swarmd.image.build.core.tree import Item
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid
from swarmd.node.building.merged import copy_part
from swarmd.node.building.spool import Piece, Spool, Writing


class Sent(msgspec.Struct, frozen=True):
    """A part of a file, by its number in the list.  ``last``: it is whole now."""

    number: int
    data: bytes
    last: bool


class Context:
    """Implements :class:`swarmd.image.build.core.tree.Tree`; :meth:`bring` files before they are written.

    ``ask`` is told the numbers of files that are needed; they come, in that order, from ``coming``.
    """

    def __init__(
        self,
        listing: Listing,
        spool: Spool,
        clock: Clock,
        ask: Callable[[Sequence[int]], None],
        coming: AsyncIterator[Sent],
    ) -> None:
        self._listing = listing
        self._spool = spool
        self._clock = clock
        self._ask = ask
        self._coming = coming
        self._alone = asyncio.Lock()
        self._pieces: dict[str, Piece] = {}

    @property
    def is_small(self) -> bool:
        """Whether looking through all of its list is done in a moment."""
        return self._listing.is_small

    def look(self, path: str) -> Item | None:
        return self._listing.items.get(path)

    def names(self, path: str) -> Sequence[str]:
        return self._listing.names.get(path, ())

    def digest(self, path: str) -> str:
        return self._listing.files[path][1]

    def write(self, path: str, fd: int) -> None:
        piece = self._pieces[self.digest(path)]
        source = self._spool.open(piece)
        copy_part(source, fd, piece.size)

    async def bring(self, paths: Iterable[str]) -> None:
        """The contents of these files are here afterwards.  Raises Invalid when they are not as listed."""
        wanted = {self._listing.files[path][1]: self._listing.files[path][0] for path in paths}
        async with self._alone:
            lacking = {digest: number for digest, number in wanted.items() if digest not in self._pieces}
            if not lacking:
                return
            found = await asyncio.to_thread(self._spool.find, lacking)
            self._pieces.update(found)
            missing = {number: digest for digest, number in lacking.items() if digest not in found}
            await asyncio.to_thread(
                self._spool.used, {piece.segment for piece in found.values()}, self._clock.now()
            )
            if missing:
                await self._receive(missing)

    async def _receive(self, missing: dict[int, str]) -> None:
        writing = self._spool.begin()
        self._ask(sorted(missing))
        try:
            waiting = set(missing)
            while waiting:
                sent = await anext(self._coming, None)
                if sent is None or sent.number not in waiting:
                    raise Invalid(
                        "the client did not send the files of the build context that were asked for"
                    )
                await asyncio.to_thread(self._take, writing, sent, missing[sent.number])
                if sent.last:
                    waiting.discard(sent.number)
        finally:
            await asyncio.to_thread(writing.end, self._clock.now())

    def _take(self, writing: Writing, sent: Sent, digest: str) -> None:
        writing.write(sent.data)
        if sent.last:
            self._pieces[digest] = writing.end_file(digest)
