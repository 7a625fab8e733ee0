"""Builds images on this node: from a Dockerfile and a context to an image with names.

::

    Dockerfile ──► parse ──► images it begins with ──► plan ──► solve ──► configuration + layers ──► image
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from swarmd.image.build.cache import Cache, Pruned
from swarmd.image.build.core.graph import Base, Plan, Stage, Warned
from swarmd.image.build.core.options import Options
from swarmd.image.build.core.parse import Dockerfile, parse
from swarmd.image.build.core.plan import bases, plan
from swarmd.image.build.solver import Solver
from swarmd.image.build.work import Limits, Staged, Watch, Wish
from swarmd.image.core.catalog import ImageInfo, tag_name
from swarmd.image.core.config import History, ImageConfig, write_config
from swarmd.image.database import Spare, connect
from swarmd.image.port import Progress
from swarmd.image.store import ImageStore
from swarmd.image.streams import disk_errors
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.kit.trees import remove_tree
from swarmd.node.building.bases import Bases, Documents, Images, Logins
from swarmd.node.building.carrying import export_cache, import_cache
from swarmd.node.building.context import Context
from swarmd.node.building.hands import BuildHands, Means
from swarmd.node.building.mounting import CacheMounts, Secrets
from swarmd.node.building.pruning import Pruning
from swarmd.node.building.remembering import Remembering
from swarmd.node.building.running import Runner
from swarmd.node.building.spool import Spool

KEEP = 10 << 30
"""Bytes of layers that the cache keeps when a build ends; the oldest go first."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks for.  ``fresh``: stages (by name) that use no cache; ``fresh_all``: none does."""

    dockerfile: bytes
    options: Options = Options()
    tags: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    fresh_all: bool = False
    pull: bool = False
    network: str = "default"
    secrets: Secrets = {}
    logins: Logins = {}


class Built(msgspec.Struct, frozen=True):
    """The image, and what rules had to say about the Dockerfile."""

    info: ImageInfo
    refs: tuple[str, ...]


class Usage(msgspec.Struct, frozen=True):
    """Bytes: of layers that the cache remembers, of contexts, of cache mounts."""

    layers: int
    contexts: int
    mounts: int


class Builder:
    """``root`` is on the store's file system.  :meth:`open` it first."""

    def __init__(
        self,
        store: ImageStore,
        runner: Runner,
        bases: Bases,
        clock: Clock,
        new_id: NewId,
        *,
        root: Path,
        private: Path,
        processors: int,
    ) -> None:
        self._store = store
        self._runner = runner
        self._bases = bases
        self._clock = clock
        self._new_id = new_id
        self._root = root
        self._private = private
        self._processors = processors
        self._lock = threading.Lock()
        self._used: set[str] = set()
        self._documents: Documents = {}
        self._running = 0

    async def open(self) -> None:
        """Read what there is; what a build left that did not end is removed."""
        await asyncio.to_thread(self._open)
        await self._runner.clear()
        self._store.room.frees.append(self._give_up)
        self._store.protect(lambda: (*self.cache.roots(), *self._used))
        self._solver = Solver(
            Remembering(self.cache, self._clock, self._used.add),
            self._clock,
            Limits(copies=max(2, self._processors)),
        )
        self._means = Means(
            store=self._store,
            runner=self._runner,
            caches=self.mounts,
            root=self._root,
            private=self._private,
            new_id=self._new_id,
        )

    def _open(self) -> None:
        for left in (self._root / "work", self._private):
            with contextlib.suppress(FileNotFoundError):
                remove_tree(left)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = connect(self._root / "build.db")
        database.execute("PRAGMA synchronous = NORMAL")
        self._database = database
        self.cache = Cache(database, self._lock, self._store.content.has)
        self.spool = Spool(self._root / "contexts", database, self._lock, self._new_id)
        self.mounts = CacheMounts(self._root / "mounts", self._new_id)
        spare = Spare(self._root / "spare")
        self._pruning = Pruning(self.cache, self.spool, self.mounts, self._store.content, spare)

    async def close(self) -> None:
        """Let go of the files."""
        await asyncio.to_thread(self.cache.settle)
        await asyncio.to_thread(self._database.close)

    async def check(self, request: Request) -> tuple[Warned, ...]:
        """What the rules say, without building.  Raises Invalid, NotFound."""
        images = self._images(request, _silent)
        return (await self.plan(parse(request.dockerfile), request, images)).warnings

    async def build(
        self,
        request: Request,
        context: Context,
        watch: Watch,
        warn: Callable[[Sequence[Warned]], None] = lambda warnings: None,
    ) -> Built:
        """Raises Failed for a step, Invalid for the Dockerfile, NotFound for an image, Unavailable."""
        await self._store.room.make()
        with disk_errors(self._root):
            return await self._build(request, context, watch, warn)

    async def _build(
        self, request: Request, context: Context, watch: Watch, warn: Callable[[Sequence[Warned]], None]
    ) -> Built:
        dockerfile = parse(request.dockerfile)
        options = request.options
        images = self._images(request, watch.progress)
        made = await self.plan(dockerfile, request, images)
        warn(made.warnings)
        clamp = options.epoch()
        hands = BuildHands(
            self._means,
            context,
            images,
            secrets=request.secrets,
            network=request.network,
            clamp=clamp,
        )
        wish = Wish(fresh=lambda stage: _is_fresh(stage, request), clamp=clamp, platform=options.platform)
        with self._keeping(images.digests()):
            async with hands:
                staged = await self._solver.solve(made, hands, watch, wish)
            built = await self._export(staged, images, request, clamp)
        if self.cache.has_grown or self.spool.has_grown:
            await asyncio.to_thread(self._tidy)
        return built

    async def _give_up(self) -> None:
        """The disk is nearly full: what can be built again goes, unless it is needed just now."""
        if not self._running:
            await self.prune(before=self._clock.now(), keep=-1, everything=True)

    def _tidy(self) -> None:
        self.cache.prune(keep=KEEP)
        self.spool.prune(before=0.0, keep=KEEP)

    @contextlib.contextmanager
    def _keeping(self, bases: Iterable[str]) -> Iterator[None]:
        """What a build has used is not collected before it ends, whatever is pruned meanwhile."""
        self._used.update(bases)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._used.clear()

    def _images(self, request: Request, progress: Progress) -> Images:
        return Images(
            self._store,
            self._bases,
            platform=request.options.platform,
            pull=request.pull,
            logins=request.logins,
            progress=progress,
            documents=self._documents,
        )

    async def usage(self) -> Usage:
        """What the build cache takes on disk."""
        return Usage(
            await asyncio.to_thread(self.cache.size),
            await asyncio.to_thread(self.spool.size),
            await asyncio.to_thread(self.mounts.size),
        )

    async def prune(self, *, before: float, keep: int, everything: bool) -> Pruned:
        """Forget what was last used ``before`` then, what is too much for ``keep`` bytes, or everything."""
        return await self._pruning.prune(before=before, keep=keep, everything=everything)

    async def export_cache(self) -> AsyncIterator[bytes]:
        """See :mod:`swarmd.node.building.carrying`."""
        async with self._work() as work:
            async for data in export_cache(self.cache, self._store.content, work):
                yield data

    async def import_cache(self, data: AsyncIterator[bytes]) -> int:
        """Answers how many rows came."""
        async with self._work() as work:
            return await import_cache(self.cache, self._store.content, work, data, self._clock.now)

    @contextlib.asynccontextmanager
    async def _work(self) -> AsyncIterator[Path]:
        path = self._root / "work" / self._new_id()
        path.mkdir(mode=0o700, parents=True)
        try:
            yield path
        finally:
            await asyncio.to_thread(remove_tree, path)

    async def plan(self, dockerfile: Dockerfile, request: Request, images: Images) -> Plan:
        """The steps.  Raises Invalid, NotFound."""
        configs: Mapping[Base, ImageConfig] = {
            base: (await images.resolved(base.ref, base.platform)).document.run
            for base in bases(dockerfile, request.options)
        }
        return plan(dockerfile, request.options, configs)

    async def _export(self, staged: Staged, images: Images, request: Request, clamp: float | None) -> Built:
        below = images.document(staged.base)
        history = tuple(below.history) if below is not None else ()
        if below is not None and not history:
            history = tuple(History() for _ in below.diff_ids)
        history += tuple(
            History(
                created=_stamped(one.created, clamp),
                created_by=one.created_by,
                comment="buildkit.dockerfile.v0",
                empty_layer=one.empty,
            )
            for one in staged.history
        )
        _, arch, variant = f"{request.options.platform}//".split("/")[:3]
        layers = staged.chain.layers
        config = write_config(
            staged.config,
            diff_ids=tuple(layer.diff_id for layer in layers),
            created=_stamped(staged.chain.created, clamp),
            arch=arch,
            variant=variant,
            history=history,
            author=staged.author or (below.author if below is not None else ""),
        )
        info = await self._store.compose(config, layers, tuple(tag_name(tag) for tag in request.tags))
        return Built(info, request.tags)


def _stamped(at: float, clamp: float | None) -> float:
    return at if clamp is None else min(at, clamp)


def _silent(item: str, state: str, current: int = 0, total: int = 0) -> None:
    """Nobody is told."""


def _is_fresh(stage: Stage, request: Request) -> bool:
    return request.fresh_all or (bool(request.fresh) and stage.name in request.fresh)
