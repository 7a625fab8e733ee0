"""The swarm's registry on this machine: on loopback for everybody here, on the LAN for users with a password.

::

    localhost:5000 (plain) ─┐
    registry.listen (TLS)   ┴─► Registry ──► names: the swarm's
                                        └──► blobs: the image store's, or fetched from whoever has them
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from swarmd.daemon.certificate_files import server_context
from swarmd.daemon.config import Config
from swarmd.daemon.member import Member
from swarmd.daemon.names import SwarmNames
from swarmd.daemon.registry_config import RegistryConfig
from swarmd.image.core.manifest import read_index
from swarmd.image.kernel import goarch
from swarmd.image.registry.access import Guarded, Local
from swarmd.image.registry.blobs import Ensure
from swarmd.image.registry.core.pushed import IMAGES, INDEXES
from swarmd.image.registry.http_server import HttpServer
from swarmd.image.registry.intake import Uploads
from swarmd.image.registry.journal import Journal
from swarmd.image.registry.links import Links
from swarmd.image.registry.mirror import Mirror, Upstream
from swarmd.image.registry.port import Names, Stored
from swarmd.image.registry.server import Registry
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId, new_id
from swarmd.kit.supervise import Nursery, Report, caught
from swarmd.model.errors import Invalid, Unavailable

_TIDY = 300.0
_LOOPBACK = ("127.0.0.1", "::1")


def swarm_registry(
    config: Config,
    images: ImageStore,
    clock: Clock,
    member: Callable[[], Member],
    changed: Callable[[], None],
    upstream: Upstream,
) -> RegistryDoor:
    """That of a daemon.  ``member`` raises SwarmError while this node is in no swarm: so does the registry.

    ``changed``: told when there are other images here.
    """

    async def ensure(digest: str) -> None:
        await member().working.blobs.ensure_blob(digest)

    def report(name: str, error: BaseException) -> None:
        structlog.get_logger().error("background_failed", what=name, reason=str(error), exc_info=error)

    behind = Behind(
        images=images,
        names=SwarmNames(member, images.content, clock),
        ensure=ensure,
        upstream=upstream,
        state=config.data / "registry-mirror.json",
        journal=config.data / "registry-pushes.json",
        arch=goarch(),
        changed=changed,
        clock=clock,
        new_id=new_id,
        report=report,
    )
    return RegistryDoor(config.registry, behind)


class Behind(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry stands on.

    ``state``: the file that keeps where tags of other registries led, which ``upstream`` reads.
    ``journal``: the file that keeps what is known of pushes under way.  ``arch``: of this machine.
    ``changed``: told when there are other images here.
    """

    images: ImageStore
    names: Names
    ensure: Ensure
    upstream: Upstream
    state: Path
    journal: Path
    arch: str
    changed: Callable[[], None]
    clock: Clock
    new_id: NewId
    report: Report


class RegistryDoor:
    """Opens and closes it.  That an address cannot be had is a warning, no reason not to start."""

    def __init__(self, config: RegistryConfig, behind: Behind) -> None:
        self._config = config
        self._behind = behind
        self._problems: list[str] = []
        self._log = structlog.get_logger()
        self._nursery = Nursery(behind.report)
        content, clock = behind.images.content, behind.clock
        journal = Journal(behind.journal)
        mirror = None
        if config.read_through:
            mirror = Mirror(behind.upstream, content, clock, behind.state, config.read_through)
            behind.images.protect(mirror.roots)
        self._registry = Registry(
            behind.names,
            content,
            Uploads(content, clock, behind.new_id, journal=journal),
            Links(content, clock, journal),
            ensure=behind.ensure,
            mirror=mirror,
            on_pushed=self._take,
            may_delete=config.delete,
        )
        self._server = HttpServer(Local(self._registry.handle))
        self._outside: HttpServer | None = None
        self._is_open = self._is_tidied = False

    async def open(self) -> None:
        """Listen where the settings say, if it does not yet."""
        if self._is_open:
            return
        self._is_open = True
        if self._config.port:
            for host in _LOOPBACK:
                await self._listen(self._server, host, self._config.port, None)
        if self._config.listen:
            await self._open_outside()
        if not self._is_tidied:
            self._is_tidied = True
            self._nursery.start("registry's housekeeping", self._tidy())

    async def shut(self) -> None:
        """Listen no more: what is under way has two seconds.  It can be opened again."""
        self._is_open = False
        self._problems.clear()
        await self._server.close()
        if self._outside is not None:
            await self._outside.close()
            self._outside = None

    async def close(self) -> None:
        """End, for good."""
        await self._nursery.close()
        await self.shut()
        await self._registry.close()

    def problems(self) -> list[str]:
        """Sentences about what is not served, for a person."""
        return list(self._problems)

    async def _open_outside(self) -> None:
        try:
            handle = Guarded(self._registry.handle, Path(self._config.users_file))
            context = server_context("the registry's", self._config.certificate, self._config.key)
        except Invalid as error:
            self._warn(str(error))
            return
        host, port = self._config.address()
        self._outside = HttpServer(handle)
        await self._listen(self._outside, host, port, context)

    async def _listen(self, server: HttpServer, host: str, port: int, context: ssl.SSLContext | None) -> None:
        try:
            await server.open(host, port, context)
        except Unavailable as error:
            if host != "::1":  # a machine without IPv6 is no problem
                self._warn(f"{error}; set registry.port (0: off) and start the daemon again")

    def _warn(self, text: str) -> None:
        self._problems.append(text)
        self._log.warning("registry_not_served", reason=text)

    async def _tidy(self) -> None:
        while True:
            await self._behind.clock.sleep(_TIDY)
            error = await caught(self._registry.tidy())
            if error is not None:
                self._behind.report("registry's housekeeping", error)

    async def _take(self, repository: str, stored: Stored, tags: tuple[str, ...]) -> None:
        """A pushed image is one of this node's images too, if it is one for this machine."""
        refs = tuple(f"localhost:{self._config.port}/{repository}:{tag}" for tag in tags)
        if not refs or not self._config.port:
            return
        if stored.media_type in IMAGES:
            await self._add(stored, refs, None)
        elif stored.media_type in INDEXES:
            for entry in read_index(stored.data).choose(self._behind.arch)[:1]:
                found = await self._behind.names.find(repository, entry.digest)
                if found is not None and found.media_type in IMAGES:
                    await self._add(found, refs, stored.data)

    async def _add(self, image: Stored, refs: tuple[str, ...], index: bytes | None) -> None:
        if all(self._behind.images.content.has(digest) for digest in image.blobs):
            await self._behind.images.add(image.data, refs, index=index)
            self._behind.changed()
