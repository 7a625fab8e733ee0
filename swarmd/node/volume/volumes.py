"""The volumes of one node: made by name or at first use, kept while something uses them, removed by name.

Who uses a volume is asked of the containers that are there, so it is known after any restart; beside them
whoever is making a container holds what it will use, from :meth:`Volumes.use` to :meth:`Volumes.release`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.model import volume_name
from swarmd.model.errors import Conflict, Invalid, NotFound
from swarmd.node.runtime.port import Runtime
from swarmd.node.volume.core.volume import ANONYMOUS, Volume, anonymous_name, prunable
from swarmd.node.volume.disk import VolumeDisk

list_ = list

Mounted = Callable[[], Iterable[tuple[str, str]]]
"""(id, host path) of every mount of every container of this node, also of those that ended."""


def mounted_by(runtime: Runtime) -> Iterator[tuple[str, str]]:
    """What the containers of a runtime have mounted, as :class:`Volumes` asks for it."""
    for state in runtime.list():
        config = runtime.config(state.id)
        for mount in () if config is None else config.mounts:
            yield state.id, mount.source


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as a container asks for it.  ``name`` empty: one of its own, which goes with it."""

    name: str = ""
    target: str
    labels: Mapping[str, str] = {}


class Volumes:
    """The volumes below ``root``.  :meth:`open` them first."""

    def __init__(self, root: Path, clock: Clock, new_id: NewId, mounted: Mounted) -> None:
        self._root = root
        self._disk = VolumeDisk(root)
        self._clock = clock
        self._new_id = new_id
        self._mounted = mounted
        self._held: dict[str, set[str]] = {}
        self._owned: dict[str, set[str]] = {}
        self._change = asyncio.Lock()

    async def open(self) -> None:
        """Remove what a crash left half made.  Raises Unavailable."""
        await asyncio.to_thread(self._disk.open)
        for volume in await self.list():
            self._note(volume)

    async def create(self, name: str, labels: Mapping[str, str], *, driver: str = "") -> Volume:
        """A volume by that name (empty: a fresh one); one that is there is answered as it is.

        Raises Invalid, Unavailable.
        """
        if driver not in ("", "local"):
            raise Invalid(
                f"error looking up volume plugin {driver}: volumes are directories of the node, "
                "and the only driver is local"
            )
        if not name:
            name, labels = f"{self._new_id()}{self._new_id()}", {**labels, ANONYMOUS: ""}
        volume_name.check(name)
        if len(name) == 1:
            raise Invalid("volume name is too short, names should be at least two alphanumeric characters")
        async with self._change:
            return await self._found_or_made(Volume(name=name, labels=labels))

    async def list(self) -> list_[Volume]:
        """All of them, by name."""
        return await asyncio.to_thread(self._read_all)

    async def get(self, name: str) -> Volume:
        """Raises NotFound."""
        found = await asyncio.to_thread(self._disk.read, name) if _may_be(name) else None
        if found is None:
            raise NotFound(f"get {name}: no such volume")
        return found

    async def size(self, name: str) -> int:
        """Bytes on the disk.  Takes as long as there are files."""
        return await asyncio.to_thread(self._disk.size, name)

    def path(self, name: str) -> str:
        """Where a volume's content is."""
        return str(self._disk.data(name))

    def users(self, name: str) -> list_[str]:
        """Ids of the containers that use a volume, running or not, or will in a moment."""
        return self.all_users().get(name, [])

    def all_users(self) -> dict[str, list_[str]]:
        """Name of each volume in use → ids of its users."""
        users: dict[str, set[str]] = {}
        for owner, names in self._held.items():
            for name in names:
                users.setdefault(name, set()).add(owner)
        for container, source in self._mounted():
            path = Path(source)
            if path.is_relative_to(self._root) and path != self._root:
                users.setdefault(path.relative_to(self._root).parts[0], set()).add(container)
        return {name: sorted(ids) for name, ids in users.items()}

    async def remove(self, name: str) -> None:
        """Raises NotFound, Conflict while it is used."""
        async with self._change:
            await self.get(name)
            users = self.users(name)
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            gone = await self._take_away(name)
        await asyncio.to_thread(self._disk.clear, gone)

    async def prune(self, *, everything: bool, labels: Mapping[str, str | None]) -> tuple[list_[str], int]:
        """Remove what nothing uses, without ``everything`` only what nobody gave a name.

        Answers (names, bytes freed).
        """
        async with self._change:
            chosen = prunable(await self.list(), self.all_users(), everything=everything, labels=labels)
            gone = [await self._take_away(volume.name) for volume in chosen]
        freed = 0
        for path in gone:
            freed += await self.size(path.name)
            await asyncio.to_thread(self._disk.clear, path)
        return [volume.name for volume in chosen], freed

    async def use(self, owner: str, wanted: Wanted) -> str:
        """The directory behind a container's volume, made at first use; held until :meth:`release`.

        Raises Invalid for a bad name, Refused for what is no volume, Unavailable without room.
        """
        name = wanted.name or anonymous_name(owner, wanted.target)
        volume_name.check(name)
        volume = Volume(name=name, labels=wanted.labels)
        if not wanted.name:
            volume = Volume(name=name, labels={**wanted.labels, ANONYMOUS: ""}, owner=owner)
        async with self._change:
            self._held.setdefault(owner, set()).add(name)
            await self._found_or_made(volume)
            return str(await asyncio.to_thread(self._disk.mend, name))

    def release(self, owner: str) -> None:
        """The container was made, and speaks for itself, or will not be."""
        self._held.pop(owner, None)

    async def remove_anonymous(self, owner: str) -> None:
        """The container is gone for good, and with it what was its own.  Raises Unavailable."""
        async with self._change:
            self.release(owner)
            names = self._owned.get(owner, set())
            if names:
                names = names - self.all_users().keys()
            gone = [await self._take_away(name) for name in sorted(names)]
        for path in gone:
            await asyncio.to_thread(self._disk.clear, path)

    async def _found_or_made(self, volume: Volume) -> Volume:
        found = await asyncio.to_thread(self._disk.read, volume.name)
        if found is None:
            found = msgspec.structs.replace(volume, created_at=self._clock.now())
            await asyncio.to_thread(self._disk.make, found, self._new_id())
        self._note(found)
        return found

    async def _take_away(self, name: str) -> Path:
        gone = await asyncio.to_thread(self._disk.take_away, name, self._new_id())
        for owner, names in list(self._owned.items()):
            names.discard(name)
            if not names:
                del self._owned[owner]
        return gone

    def _note(self, volume: Volume) -> None:
        """Whose an anonymous volume is, so that the end of a container without one costs nothing."""
        if volume.owner and volume.is_anonymous:
            self._owned.setdefault(volume.owner, set()).add(volume.name)

    def _read_all(self) -> list_[Volume]:
        found = (self._disk.read(name) for name in self._disk.names())
        return [volume for volume in found if volume is not None]


def _may_be(name: str) -> bool:
    try:
        volume_name.check(name)
    except Invalid:
        return False
    return True
