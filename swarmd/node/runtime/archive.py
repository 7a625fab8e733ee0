"""Files of a container, from outside: tar streams out of and into it, and what it has changed.

    running, created ──► /proc/PID/root: what its processes see, volumes too
    exited           ──► its layers, mounted for nobody else (``detached``), with its volumes (``attached``)

Every path is looked up by the kernel with the container's root as "/".  What its processes swap meanwhile
may change what is copied, but not where it is: never outside.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from swarmd.image.streams import disk_errors, is_full
from swarmd.kit.supervise import Nursery
from swarmd.kit.tree import ids
from swarmd.kit.tree.confined import held, open_in_root
from swarmd.kit.tree.ids import Owners
from swarmd.kit.tree.packing import pack
from swarmd.kit.tree.unpacking import BadArchive, Stream, Taking, unpack
from swarmd.kit.trees import disk_use
from swarmd.model.errors import Invalid, NotFound, Refused, Unavailable
from swarmd.node.runtime import kernel
from swarmd.node.runtime.attached import put_back
from swarmd.node.runtime.box import Box
from swarmd.node.runtime.committing import copy_layer
from swarmd.node.runtime.core import foreign
from swarmd.node.runtime.core.changes import Change
from swarmd.node.runtime.detached import overlay
from swarmd.node.runtime.diff import layer_changes
from swarmd.node.runtime.handover import GivenUp, Handover, stream
from swarmd.node.runtime.mapped import as_root_of, owners_of
from swarmd.node.runtime.port import ContainerConfig

_PLACE = os.O_PATH | os.O_CLOEXEC
_THREADS, _WRITERS = 8, 4

T = TypeVar("T")


class PathStat(msgspec.Struct, frozen=True):
    """What is at a path: ``mode`` with the kind, ``size`` in bytes, ``link`` where a link leads, or ""."""

    name: str
    mode: int
    size: int = 0
    mtime: float = 0.0
    link: str = ""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Archives:
    """Files of the containers of one runtime.

    ``box`` and ``directory`` are asked by container id; ``box`` raises NotFound.
    """

    def __init__(self, box: Callable[[str], Box], directory: Callable[[str], Path]) -> None:
        self._box = box
        self._directory = directory
        self._threads = concurrent.futures.ThreadPoolExecutor(_THREADS, "archive")
        self._writers = asyncio.Semaphore(_WRITERS)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.wrap_future(self._threads.submit(work, *arguments))

    async def stat(self, container_id: str, path: str, *, follow: bool = False) -> PathStat:
        """What is at ``path``.  Raises NotFound when there is nothing."""

        def work() -> PathStat:
            with self._root(container_id) as (root, _), _found(root, container_id, path, follow) as place:
                seen = os.fstat(place)
                link = os.readlink("", dir_fd=place) if stat.S_ISLNK(seen.st_mode) else ""
                return PathStat(base_name(path), seen.st_mode, seen.st_size, seen.st_mtime, link)

        return await self._run(work)

    def read(self, container_id: str, path: str, *, follow: bool = False) -> AsyncGenerator[bytes, None]:
        """A tar of ``path``, whose top is its last component (``.`` for a path that ends so).

        ``follow``: of what a link at the end leads to.  Raises NotFound; Unavailable when reading fails.
        """
        return stream(self._threads, self._packed(container_id, path, follow))

    def _packed(self, container_id: str, path: str, follow: bool) -> Generator[bytes]:
        with self._root(container_id) as (root, owners), _found(root, container_id, path, follow) as place:
            try:
                yield from _gathered(pack(place, base_name(path), owners))
            except OSError as error:
                raise Unavailable(f"{path} in container {container_id} cannot be read: {error}") from error

    async def write(
        self, container_id: str, path: str, pieces: AsyncIterator[bytes], *, keep_owners: bool = False
    ) -> None:
        """Unpack a tar below the directory ``path``.  Everything is root's, unless ``keep_owners``.

        Raises NotFound, Invalid for what is no directory or no tar, Refused where it is read-only.
        """

        async def feed() -> None:
            async for piece in pieces:
                if piece:
                    await arriving.put(piece)
            arriving.end()

        # Those that wait for a slow sender leave threads for others.
        async with self._writers:
            arriving = Handover()
            nursery = Nursery(lambda name, error: arriving.give_up())
            nursery.start("what arrives", feed())
            try:
                await self._run(self._unpack, container_id, path, arriving, keep_owners)
            finally:
                arriving.give_up()
                await nursery.close()

    def _unpack(self, container_id: str, path: str, pieces: Handover, keep_owners: bool) -> None:
        with self._root(container_id) as (root, owners), _found(root, container_id, path, True) as place:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                raise Invalid(f"{path} in container {container_id} is not a directory")
            taking = Taking(owner=None if keep_owners else (0, 0), owners=owners, devices=True)
            try:
                with as_root_of(owners):
                    unpack(place, Stream(pieces).as_file(), taking)
            except BadArchive as error:
                raise Invalid(str(error)) from error
            except GivenUp:
                raise Unavailable(f"the copy to container {container_id} was broken off") from None
            except OSError as error:
                there = f"{path} in container {container_id}"
                if is_full(error) or (error.errno == errno.EROFS and self._has_no_room(container_id)):
                    raise Unavailable(
                        f"no space left for what is copied to {there}: free some there or enlarge the disk"
                    ) from error
                raise Refused(f"cannot copy to {there}: {error.strerror}") from error

    def _has_no_room(self, container_id: str) -> bool:
        """Not one block: the kernel mounts the layers of a container that does not run read-only then."""
        return os.statvfs(self._directory(container_id)).f_bavail == 0

    async def diff(self, container_id: str) -> list[Change]:
        """("A", "C" or "D", path) of everything that the container has changed, by path."""
        config = self._box(container_id).stored.config
        try:
            return await self._run(self._changes, config)
        except OSError as error:
            raise Unavailable(f"the layer of container {container_id} cannot be read: {error}") from error

    async def copy_changes(self, container_id: str, target: Path) -> bool:
        """Copy what :meth:`diff` tells of, as overlayfs has it, into the empty directory ``target``.

        Answers whether there is anything.  Raises Unavailable.
        """
        config = self._box(container_id).stored.config

        def work() -> bool:
            kept = {path for _, path in self._changes(config)}
            directory = self._directory(container_id)
            copy_layer(directory / "upper", target, kept, owners_of(directory))
            return bool(kept)

        try:
            with disk_errors(target.parent):
                return await self._run(work)
        except OSError as error:
            raise Unavailable(f"the layer of container {container_id} cannot be copied: {error}") from error

    def _changes(self, config: ContainerConfig) -> list[Change]:
        mounted = tuple(mount.target for mount in config.mounts)
        return layer_changes(self._directory(config.id) / "upper", config.lower_dirs, mounted)

    async def size(self, container_id: str) -> int:
        """Bytes that its writable layer takes on the disk."""
        upper = self._directory(self._box(container_id).stored.config.id) / "upper"
        try:
            return await self._run(disk_use, upper.resolve())  # a single container's is a link
        except OSError as error:
            raise Unavailable(f"the layer of container {container_id} cannot be read: {error}") from error

    @contextlib.contextmanager
    def _root(self, container_id: str) -> Iterator[tuple[int, Owners]]:
        """The container's root directory, and how its owners are renamed."""
        box = self._box(container_id)
        found = _root_of_process(box)
        if found is not None:
            with held(found[0]):
                yield found
            return
        owners = owners_of(self._directory(container_id))
        with self._layers(container_id, box.stored.config) as root:
            if owners == ids.UNCHANGED:  # volumes have numbers of their own, which their mounts map
                put_back(root, box.stored.config)
            yield root, owners

    @contextlib.contextmanager
    def _layers(self, container_id: str, config: ContainerConfig) -> Iterator[int]:
        base = self._directory(container_id)
        try:
            mounted = overlay(config.lower_dirs, str(base / "upper"), str(base / "work"))
            root = mounted.__enter__()
        except OSError as error:
            raise Unavailable(
                f"the file system of container {container_id} cannot be opened: {error.strerror}"
            ) from error
        try:
            yield root
        finally:
            mounted.__exit__(None, None, None)


def base_name(path: str) -> str:
    """How the top of an archive of ``path`` is called."""
    if path.endswith("/."):
        return "."
    return path.rstrip("/").rpartition("/")[2] or "."


def _root_of_process(box: Box) -> tuple[int, Owners] | None:
    if box.pidfd < 0:
        return None
    foreign.check_inside(box.stored.config.runtime, "reading and writing files")
    pid = box.state.pid
    try:
        root = os.open(f"/proc/{pid}/root", _PLACE | os.O_DIRECTORY)
        try:
            owners = Owners(
                *(ids.parse(Path(f"/proc/{pid}/{name}").read_text()) for name in ("uid_map", "gid_map"))
            )
            # It is still there, so the pid was nobody else's.
            kernel.pidfd_send_signal(box.pidfd, 0)
        except BaseException:
            os.close(root)
            raise
    except (FileNotFoundError, ProcessLookupError):
        return None
    return root, owners


@contextlib.contextmanager
def _found(root: int, container_id: str, path: str, follow: bool) -> Iterator[int]:
    must_follow = follow or path.endswith(("/", "/."))
    try:
        place = open_in_root(root, path, _PLACE if must_follow else _PLACE | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"Could not find the file {path} in container {container_id}") from None
    except OSError as error:
        raise Invalid(f"{path} in container {container_id} cannot be looked up: {error.strerror}") from None
    with held(place):
        yield place


def _gathered(pieces: Iterator[bytes], size: int = 256 << 10) -> Iterator[bytes]:
    """The same bytes in pieces of about ``size``: many entries are small."""
    held_back = bytearray()
    for piece in pieces:
        held_back += piece
        if len(held_back) >= size:
            yield bytes(held_back)
            held_back.clear()
    if held_back:
        yield bytes(held_back)
