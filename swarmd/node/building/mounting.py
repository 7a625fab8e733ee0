"""What ``RUN --mount`` asks for, made ready for the runtime and taken away again.  Asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from swarmd.image.build.core.graph import BuildMount, Inline, Origin, Run
from swarmd.kit.ids import NewId
from swarmd.kit.trees import disk_use, remove_tree
from swarmd.model.errors import Invalid, Refused
from swarmd.node.runtime.port import Mount

_SECRETS = "/run/secrets"
_PIPES = "/dev/pipes"

Secrets = Mapping[str, bytes]
Layers = Callable[[Origin], Awaitable[tuple[Path, ...]]]
"""The layers of a stage or image, topmost first."""

Filled = Callable[[BuildMount, Path], Awaitable[str]]
"""Puts a copy of what a mount shows into an empty directory; answers the name of a file that is all of it."""


class Ready(msgspec.Struct, frozen=True):
    """``env``: secrets that are given as variables."""

    mounts: tuple[Mount, ...]
    env: tuple[str, ...]


class CacheMounts:
    """``RUN --mount=type=cache``: directories that outlive builds, in ``root``."""

    def __init__(self, root: Path, new_id: NewId) -> None:
        self._root = root
        self._new_id = new_id
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}
        self._change = threading.Lock()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in root.glob(".*"):  # one that was being made or removed
            remove_tree(left)

    @contextlib.asynccontextmanager
    async def using(self, mount: BuildMount, fill: Filled) -> AsyncIterator[Path]:
        """Its directory.  ``locked`` waits for others, ``private`` takes another one while it is in use."""
        name = hashlib.sha256((mount.id or mount.target).encode()).hexdigest()[:32]
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock if mount.sharing == "locked" else contextlib.nullcontext():
            if mount.sharing == "private":
                name = next(each for each in self._choices(name) if not self._users.get(each))
            with self._change:  # so that it is not pruned any more, or is gone already
                self._users[name] = self._users.get(name, 0) + 1
            try:
                path = self._root / name
                if not path.exists():
                    await self._make(mount, path, fill)
                yield path
            finally:
                self._users[name] -= 1

    def size(self) -> int:
        """Bytes that all of them take."""
        return sum(disk_use(path) for path in self._root.iterdir())

    def prune(self, before: float) -> int:
        """Remove those that nobody uses and nothing was changed in since; the bytes."""
        freed = 0
        for path in [path for path in self._root.iterdir() if not path.name.startswith(".")]:
            gone = self._taken_away(path, before)
            if gone is not None:
                freed += disk_use(gone)
                remove_tree(gone)
        return freed

    def _taken_away(self, path: Path, before: float) -> Path | None:
        """Where it is now; None: it stays, or somebody else removes it."""
        with self._change, contextlib.suppress(FileNotFoundError):
            if not self._users.get(path.name) and path.stat().st_mtime < before:
                return path.rename(self._root / f".{self._new_id()}")  # whoever wants it now has a new one
        return None

    def _choices(self, name: str) -> list[str]:
        return [name, *(f"{name}-{number}" for number in range(1, 1 + len(self._users) + 1))]

    async def _make(self, mount: BuildMount, path: Path, fill: Filled) -> None:
        new = self._root / f".{self._new_id()}"
        new.mkdir()
        if mount.source not in ("", "/"):
            await fill(mount, new)
        os.chown(new, max(mount.uid, 0), max(mount.gid, 0))
        new.chmod(mount.mode if mount.mode >= 0 else 0o755)
        with contextlib.suppress(FileExistsError, OSError):
            new.rename(path)
        if new.exists():
            await asyncio.to_thread(remove_tree, new)


class Mounter:
    """For the steps of one build.  ``private``: a directory in memory, for secrets; ``scratch``: on disk."""

    def __init__(
        self,
        caches: CacheMounts,
        secrets: Secrets,
        layers: Layers,
        fill: Filled,
        private: Path,
        scratch: Path,
    ) -> None:
        self._caches = caches
        self._secrets = secrets
        self._layers = layers
        self._fill = fill
        self._private = private
        self._scratch = scratch
        self._count = 0

    @contextlib.asynccontextmanager
    async def ready(self, step: Run) -> AsyncIterator[Ready]:
        """The mounts of a step, as long as it runs.  Raises Invalid, Refused."""
        async with contextlib.AsyncExitStack() as stack:
            mounts: list[Mount] = []
            env: list[str] = []
            for mount in step.mounts:
                if mount.kind == "secret":
                    self._secret(mount, mounts, env, stack)
                else:
                    mounts.append(await self._one(mount, stack))
            if step.files:
                mounts.append(self._pipes(step.files, stack))
            yield Ready(tuple(mounts), tuple(env))

    async def _one(self, mount: BuildMount, stack: contextlib.AsyncExitStack) -> Mount:
        if mount.kind == "tmpfs":
            return Mount(target=mount.target, kind="tmpfs", size=mount.size)
        if mount.kind == "cache":
            path = await stack.enter_async_context(self._caches.using(mount, self._fill))
            return Mount(target=mount.target, source=str(path), readonly=mount.readonly)
        if mount.kind == "bind":
            return await self._bind(mount, stack)
        raise Refused(
            f"RUN --mount=type={mount.kind} is not supported: a key can be given as --mount=type=secret"
        )

    async def _bind(self, mount: BuildMount, stack: contextlib.AsyncExitStack) -> Mount:
        if mount.readonly and mount.origin.where in ("stage", "image"):
            layers = await self._layers(mount.origin)
            if layers:
                return Mount(
                    target=mount.target,
                    source=str(layers[0]),
                    layers=tuple(str(layer) for layer in layers[1:]),
                    kind="image",
                    readonly=True,
                    subpath=mount.source.strip("/"),
                )
        directory = self._new(self._scratch, stack)
        shown = directory / await self._fill(mount, directory)
        return Mount(target=mount.target, source=str(shown), readonly=mount.readonly)

    def _secret(
        self, mount: BuildMount, mounts: list[Mount], env: list[str], stack: contextlib.AsyncExitStack
    ) -> None:
        value = self._secrets.get(mount.id)
        if value is None:
            if mount.required:
                raise Invalid(f"secret {mount.id}: not found: give it with --secret id={mount.id},src=FILE")
            return
        if mount.env:
            env.append(f"{mount.env}={value.decode(errors='surrogateescape')}")
        if mount.target or not mount.env:
            path = self._new(self._private, stack) / "secret"
            with path.open("xb") as file:
                os.fchmod(file.fileno(), mount.mode if mount.mode >= 0 else 0o400)
                os.fchown(file.fileno(), max(mount.uid, 0), max(mount.gid, 0))
                file.write(value)
            target = mount.target or f"{_SECRETS}/{mount.id}"
            mounts.append(Mount(target=target, source=str(path), readonly=True))

    def _pipes(self, files: tuple[Inline, ...], stack: contextlib.AsyncExitStack) -> Mount:
        directory = self._new(self._scratch, stack)
        directory.chmod(0o755)
        for file in files:
            path = directory / file.name
            path.write_bytes(file.data)
            path.chmod(0o755)
        return Mount(target=_PIPES, source=str(directory), readonly=True)

    def _new(self, where: Path, stack: contextlib.AsyncExitStack) -> Path:
        self._count += 1
        path = where / f"mount-{self._count}"
        path.mkdir(mode=0o755, parents=True)
        stack.callback(remove_tree, path)
        return path
