"""Does what a solver decides: one object for each build.  Asyncio; files are worked on in threads.

::

    COPY, ADD ──► source tree (context, stage, image, URL, git) ──► an empty layer ──► pack
    RUN       ──► mounts ──► a container over the layers so far ──► its writable layer ──► pack
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from swarmd.image.build.core.graph import BuildMount, Copy, MakeDirectory, Origin, Run
from swarmd.image.build.core.select import Chosen, choose, content_digest, contents
from swarmd.image.build.core.tree import Tree
from swarmd.image.build.solver import reads_origin
from swarmd.image.build.work import Begun, Chain, Task, Watch
from swarmd.image.port import Layer
from swarmd.image.store import ImageStore
from swarmd.image.streams import disk_errors
from swarmd.kit.ids import NewId
from swarmd.kit.trees import remove_tree
from swarmd.node.building.bases import Images
from swarmd.node.building.context import Context
from swarmd.node.building.copying import Heredocs, Work, copy, make_directory
from swarmd.node.building.fetching import Fetcher
from swarmd.node.building.merged import Merged
from swarmd.node.building.mounting import CacheMounts, Mounter, Secrets
from swarmd.node.building.running import Place, Runner

_NANO = 1_000_000_000
Asked = ParamSpec("Asked")
Found = TypeVar("Found")


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What all builds of a node share.  ``root`` is on the store's file system, ``private`` in memory."""

    store: ImageStore
    runner: Runner
    caches: CacheMounts
    root: Path
    private: Path
    new_id: NewId


class BuildHands:
    """Implements :class:`swarmd.image.build.work.Hands`.  Use it as a context: its scratch directory goes."""

    def __init__(
        self,
        means: Means,
        context: Context,
        images: Images,
        *,
        secrets: Secrets,
        network: str,
        clamp: float | None,
    ) -> None:
        self._means = means
        self._context = context
        self._images = images
        self._network = network
        self._clamp = clamp
        name = means.new_id()
        self._scratch = means.root / "work" / name
        self._private = means.private / name
        self._fetcher = Fetcher(self._scratch)
        self._mounter = Mounter(
            means.caches, secrets, self._layers_of, self._filled, self._private, self._scratch
        )
        self._has_begun = False
        self._parts: dict[tuple[Origin, str], tuple[Tree, tuple[Chosen, ...]]] = {}
        self._chains: dict[Origin, Chain] = {}

    async def __aenter__(self) -> BuildHands:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._has_begun:
            await asyncio.to_thread(_remove, self._scratch, self._private)

    def _begin(self) -> None:
        """What follows needs room on the disk."""
        if not self._has_begun:
            self._has_begun = True
            self._scratch.mkdir(mode=0o700, parents=True)
            self._private.mkdir(mode=0o700, parents=True)

    # -- Hands -----------------------------------------------------------------------------------

    async def image(self, ref: str, platform: str) -> Begun:
        """An image that was resolved when the build began, or is now."""
        return await self._images.begun(ref, platform)

    async def content(self, task: Task) -> tuple[str, ...]:
        """Of each source in turn; heredocs come last."""
        operation = task.operation
        if isinstance(operation, Copy):
            return await self._copied_content(task, operation)
        if isinstance(operation, Run):
            mounts = [mount for mount in operation.mounts if reads_origin(mount)]
            pairs = zip(mounts, task.sources, strict=True)
            return tuple([await self._mount_content(mount, chain) for mount, (_, chain) in pairs])
        return ()

    async def carry_out(self, task: Task, watch: Watch) -> Layer | None:
        """The layer of an operation; None when it changed nothing."""
        with disk_errors(self._means.root):
            return await self._carried_out(task, watch)

    async def _carried_out(self, task: Task, watch: Watch) -> Layer | None:
        self._begin()
        self._chains.update(task.sources)
        upper = self._scratch / self._means.new_id()
        lowers = await self._lowers(task.parent)
        await asyncio.to_thread(_prepare, upper, lowers)
        operation = task.operation
        if isinstance(operation, Copy):
            await self._copy(task, operation, upper, lowers)
        elif isinstance(operation, MakeDirectory):
            await asyncio.to_thread(make_directory, self._work(upper, lowers), operation)
        else:
            await self._run(task, operation, upper, lowers, watch)
        if await asyncio.to_thread(_is_unchanged, upper, lowers):
            await asyncio.to_thread(remove_tree, upper)
            return None
        return await self._means.store.pack(upper, lowers, clamp=self._clamp)

    # -- COPY, ADD -------------------------------------------------------------------------------

    async def _copied_content(self, task: Task, step: Copy) -> tuple[str, ...]:
        found = []
        owners = not step.chown
        for origin, chain in task.sources:
            tree, chosen = await self._chosen(origin, chain, step)
            found.append(await self._look(tree, content_digest, tree, chosen, step.exclude, owners=owners))
        if step.inline:
            inline = [(file.name, hashlib.sha256(file.data).hexdigest()) for file in step.inline]
            found.append(repr(inline))
        return tuple(found)

    async def _chosen(self, origin: Origin, chain: Chain, step: Copy) -> tuple[Tree, tuple[Chosen, ...]]:
        name = (origin, repr((step.sources, step.parents, step.checksum, chain.id)))
        if name not in self._parts:
            if origin.where in ("url", "git"):
                self._begin()
                self._parts[name] = await self._fetcher.get(origin, step)
            else:
                tree = await self._tree(origin, chain)
                chosen = await self._look(
                    tree,
                    choose,
                    tree,
                    step.sources,
                    parents=step.parents,
                    where=_named(origin),
                )
                self._parts[name] = (tree, chosen)
        return self._parts[name]

    async def _look(
        self, tree: Tree, look: Callable[Asked, Found], *what: Asked.args, **how: Asked.kwargs
    ) -> Found:
        """What ``look`` finds in ``tree``: in a thread, unless that takes longer than looking."""
        if tree is self._context and self._context.is_small:
            return look(*what, **how)
        return await asyncio.to_thread(look, *what, **how)

    async def _copy(self, task: Task, step: Copy, upper: Path, lowers: tuple[Path, ...]) -> None:
        trees = []
        for origin, chain in task.sources:
            tree, chosen = await self._chosen(origin, chain, step)
            if tree is self._context:
                await self._context.bring(_files(tree, chosen, step.exclude))
            trees.append((tree, chosen))
        if step.inline:
            heredocs = Heredocs(step.inline, self._time())
            trees.append((heredocs, heredocs.chosen()))
        work = self._work(upper, () if step.link and not step.chown else lowers)
        await asyncio.to_thread(copy, work, step, trees)

    def _work(self, upper: Path, lowers: tuple[Path, ...]) -> Work:
        return Work(upper=upper, lowers=lowers, scratch=self._scratch, time=self._time())

    def _time(self) -> int:
        """Of what has no time of its own: the same in every build."""
        return int(self._clamp * _NANO) if self._clamp is not None else 0

    # -- RUN -------------------------------------------------------------------------------------

    async def _run(self, task: Task, step: Run, upper: Path, lowers: tuple[Path, ...], watch: Watch) -> None:
        if not lowers:
            lowers = (await asyncio.to_thread(self._empty),)
        async with self._mounter.ready(step) as ready:
            place = Place(upper=upper, lowers=lowers, mounts=ready.mounts, env=ready.env)
            await self._means.runner.run(
                step,
                place,
                lambda stream, data: watch.output(task.vertex, stream, data),
                network=self._network,
            )

    async def _mount_content(self, mount: BuildMount, chain: Chain) -> str:
        if mount.origin.where != "context":
            return chain.id
        tree, chosen = await self._shown(mount)
        return await asyncio.to_thread(content_digest, tree, chosen, (), owners=False)

    async def _shown(self, mount: BuildMount) -> tuple[Tree, tuple[Chosen, ...]]:
        """What a bind mount of the context, or a copy of a stage, shows."""
        tree = await self._tree(mount.origin, self._chains.get(mount.origin, Chain()))
        source = mount.source.strip("/")
        chosen = await asyncio.to_thread(choose, tree, (source,), parents=False, where=_named(mount.origin))
        return tree, chosen

    async def _filled(self, mount: BuildMount, directory: Path) -> str:
        tree, chosen = await self._shown(mount)
        if tree is self._context:
            await self._context.bring(_files(tree, chosen, ()))
        step = Copy(destination="/")
        await asyncio.to_thread(copy, self._work(directory, ()), step, [(tree, chosen)])
        return chosen[0].name if len(chosen) == 1 and chosen[0].item.kind == "file" else ""

    # -- layers ----------------------------------------------------------------------------------

    async def _tree(self, origin: Origin, chain: Chain) -> Tree:
        if origin.where == "context":
            return self._context
        return Merged(await self._lowers(chain))

    async def _layers_of(self, origin: Origin) -> tuple[Path, ...]:
        return await self._lowers(self._chains.get(origin, Chain()))

    async def _lowers(self, chain: Chain) -> tuple[Path, ...]:
        return await self._images.lowers(chain)

    def _empty(self) -> Path:
        path = self._scratch / "empty"
        path.mkdir(mode=0o755, exist_ok=True)
        return path


def _remove(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # there was no room to make it
            remove_tree(path)


def _files(tree: Tree, chosen: Sequence[Chosen], exclude: Sequence[str]) -> list[str]:
    return [path for one in chosen for path, _, item in contents(tree, one, exclude) if item.kind == "file"]


def _named(origin: Origin) -> str:
    if origin.where == "context":
        return "the build context"
    return f"stage {origin.stage}" if origin.where == "stage" else origin.ref


def _prepare(upper: Path, lowers: Sequence[Path]) -> None:
    """The root of an overlay looks like its uppermost directory: like that below."""
    upper.mkdir(mode=0o755)
    if lowers:
        top = os.stat(lowers[0])
        os.chown(upper, top.st_uid, top.st_gid)
        upper.chmod(top.st_mode & 0o7777)
        os.utime(upper, ns=(top.st_mtime_ns, top.st_mtime_ns))


def _is_unchanged(upper: Path, lowers: Sequence[Path]) -> bool:
    with os.scandir(upper) as entries:
        if next(entries, None) is not None:
            return False
    seen = os.stat(upper)
    below = os.stat(lowers[0]) if lowers else None
    looks = (seen.st_mode, seen.st_uid, seen.st_gid)
    return below is None or looks == (below.st_mode, below.st_uid, below.st_gid)
