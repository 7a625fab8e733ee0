"""What is kept and what is collected: the catalogue, and all that protects contents.  Asyncio.

::

    names, indexes ─► images ─► manifest, configuration, layers (blob and tree)
    roots handed in ─► a manifest or index (and all it needs), or a blob
    pins, what came in lately ─► blobs and trees
    everything else ─► trash
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from swarmd.image.core.catalog import Catalog
from swarmd.image.core.manifest import MAX_MANIFEST, referred
from swarmd.image.core.removal import InUse
from swarmd.image.disk import Disk
from swarmd.image.flights import Flights, Fresh, Pins
from swarmd.image.room import Room
from swarmd.kit.clock import Clock
from swarmd.model.errors import SwarmError

Roots = Callable[[], Iterable[str]]

_GRACE = 600.0  # seconds for which a prepared image is spared, until its container is known
_UNFINISHED = 86400.0  # seconds after its last byte for which an upload may be gone on with


class Keeper:
    """The catalogue of the store on ``disk``.  Change it under ``change``, with :meth:`save`.

    ``reserve``: as :class:`Room` has it.
    """

    def __init__(self, disk: Disk, clock: Clock, reserve: int | None = 0) -> None:
        self.disk = disk
        self.clock = clock
        self.catalog = Catalog()
        self.change = asyncio.Lock()
        self.flights = Flights()
        self.pins = Pins()
        self.fresh = Fresh(clock)
        self.roots: list[Roots] = []
        self.room = Room(disk.root, reserve, clock, disk.finish)
        self.room.frees.append(self.sweep)
        self._prepared: dict[str, float] = {}
        self._needs: dict[str, tuple[str, ...]] = {}

    async def open(self) -> tuple[str, ...]:
        """Recover; answers what was lost.  What no image needs yet counts as come just now, and left."""
        self.catalog, lost = await asyncio.to_thread(self.disk.open)
        found = set(self.disk.blobs) - self.catalog.blobs()
        self.fresh.note(found)
        self.fresh.leave(found)
        return lost

    async def save(self, catalog: Catalog) -> None:
        """Make ``catalog`` the one that holds, durably."""
        await asyncio.to_thread(self.disk.save, catalog)
        self.catalog = catalog

    async def sweep(self, *, left: bool = False) -> int:
        """Remove what nobody needs, with what was ``left`` lately; answers the bytes of blobs freed.

        Nothing is awaited between looking at what is needed and moving the rest away.
        """
        try:
            blobs = self._needed(self.fresh.names(left=not left))
        except SwarmError:
            return 0  # who cannot say what he needs loses nothing
        trees = {self.catalog.layers[each] for each in blobs if each in self.catalog.layers}
        names = {each.removeprefix("sha256:") for each in trees | blobs}
        trash, freed, gone = self.disk.bury(blobs, self.catalog.trees() | names)
        trash += self.disk.bury_ingests(self.clock.now() - _UNFINISHED)
        await asyncio.to_thread(self.disk.collect, *trash)
        if any(digest in self.catalog.layers or digest in self.catalog.indexes for digest in gone):
            async with self.change:
                # What came again meanwhile is not gone.
                missing = [digest for digest in gone if not self.disk.blobs.has(digest)]
                await self.save(self.catalog.lost(missing))
        return freed

    def being_started(self, digest: str) -> None:
        """An image is prepared for a container that is not known yet."""
        self._prepared[digest] = self.clock.monotonic()

    def known(self, digest: str) -> None:
        """The container an image was prepared for is told of by ``in_use`` from now on."""
        self._prepared.pop(digest, None)

    def users(self, digest: str, in_use: InUse) -> Sequence[str]:
        """Who uses an image: containers by ``in_use``, one about to start, whoever handed in roots."""
        users = list(in_use(digest))
        since = self._prepared.get(digest)
        if since is not None and self.clock.monotonic() - since < _GRACE:
            users.insert(0, "(being started)")
        if self._is_rooted(digest):
            users.append("(kept by the swarm)")
        return users

    def _is_rooted(self, digest: str) -> bool:
        """Whether somebody's roots lead to the image; it counts as such while they cannot be told."""
        names = {digest, *(index for index, chosen in self.catalog.indexes.items() if chosen == digest)}
        try:
            return not names.isdisjoint(self._rooted())
        except SwarmError:
            return True

    def _rooted(self) -> set[str]:
        return {digest for roots in self.roots for digest in roots()}

    def _needed(self, fresh: frozenset[str]) -> set[str]:
        """Every blob that has to stay."""
        needed = set(self.catalog.blobs() | self.pins.names() | fresh)
        waiting = list(self._rooted())
        while waiting:
            digest = waiting.pop()
            needed.add(digest)
            waiting += [each for each in self._needs_of(digest) if each not in needed]
        return needed

    def _needs_of(self, digest: str) -> tuple[str, ...]:
        """What a blob refers to, if it is a manifest or an index."""
        if digest not in self._needs:
            if not self.disk.blobs.has(digest):
                return ()
            path = self.disk.blobs.path(digest)
            raw = path.read_bytes() if path.stat().st_size <= MAX_MANIFEST else b""
            self._needs[digest] = referred(raw) if raw.startswith(b"{") else ()
        return self._needs[digest]
