"""Serves the metrics page where the settings say.  That an address cannot be had is a warning, no reason not
to start."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from pathlib import Path

import structlog

from swarmd.daemon.certificate_files import server_context
from swarmd.daemon.config import Config
from swarmd.daemon.member import Member
from swarmd.daemon.metering import manager, node, usage
from swarmd.daemon.metering.engine import Engine
from swarmd.daemon.metering.scraper import Part, Scraper
from swarmd.daemon.metering.sources import Sources
from swarmd.daemon.metrics_config import MetricsConfig
from swarmd.image.registry.exchange import Reply, Request
from swarmd.image.registry.http_server import HttpServer
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.containers.local import LocalContainers
from swarmd.node.network.port import NetworkPort
from swarmd.telemetry.tally import Tally

PATH = "/metrics"
_TEXT = (("Content-Type", "text/plain; charset=utf-8"),)


def metrics_door(
    config: Config,
    clock: Clock,
    containers: LocalContainers,
    images: ImageStore,
    member: Callable[[], Member | None],
    network: Callable[[], NetworkPort | None],
    calls: Tally,
) -> MetricsDoor:
    """That of a daemon; the arguments are as in :class:`Sources`."""
    sources = Sources(
        config=config, clock=clock, containers=containers, images=images, member=member, network=network,
        calls=calls,
    )  # fmt: skip
    return MetricsDoor(config.metrics, scraper(sources))


def scraper(sources: Sources) -> Scraper:
    """With all the parts of a daemon."""
    engine, swarm = Engine(sources), manager.Swarm(sources)
    parts: dict[str, Part] = {
        "engine": engine.machine,
        "images": engine.images,
        "membership": lambda: node.membership(sources),
        "network": lambda: node.network(sources),
        "conntrack": node.conntrack,
        "containers": lambda: usage.containers(sources),
        "raft": lambda: manager.raft(sources),
        "swarm": swarm.read,
    }
    return Scraper(parts, sources.clock)


class MetricsDoor:
    """Open from :meth:`open` to :meth:`close`."""

    def __init__(self, config: MetricsConfig, scraper: Scraper) -> None:
        self._config = config
        self._scraper = scraper
        self._server = HttpServer(self.handle, "the metrics page")
        self._problems: tuple[str, ...] = ()

    async def open(self) -> None:
        """Listen, if anywhere."""
        if not self._config.listen:
            return
        host, port = self._config.address()
        files = (self._config.certificate, self._config.key)
        try:
            context = server_context("the metrics page's", *files) if any(files) else None
            await self._server.open(host, port, context)
        except (Invalid, Unavailable) as error:
            self._problems = (f'{error}; set metrics.listen ("": nowhere) and start the daemon again',)
            structlog.get_logger().warning("metrics_not_served", reason=str(error))

    async def close(self) -> None:
        """A scrape that is under way has two seconds."""
        await self._server.close()

    def problems(self) -> tuple[str, ...]:
        """Sentences about what is not served, for a person."""
        return self._problems

    async def handle(self, request: Request) -> Reply:
        """Answer one request."""
        if request.path != PATH:
            return Reply(404, _TEXT, f"the metrics are at {PATH}\n".encode())
        if request.method not in ("GET", "HEAD"):
            return Reply(405, (*_TEXT, ("Allow", "GET, HEAD")), b"metrics can only be read\n")
        refusal = await asyncio.to_thread(self._refusal, request.header("authorization"))
        if refusal is not None:
            return refusal
        page, media_type = await self._scraper.scrape(request.header("accept"))
        headers = (("Content-Type", media_type),)
        if request.method == "HEAD":
            return Reply(200, headers, length=len(page))
        return Reply(200, headers, page)

    def _refusal(self, given: str) -> Reply | None:
        if not self._config.token_file:
            return None
        try:
            token = Path(self._config.token_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            structlog.get_logger().warning("metrics_token_unreadable", reason=str(error))
            token = ""
        wanted = f"Bearer {token}".encode()
        if token and hmac.compare_digest(given.encode(errors="replace"), wanted):
            return None
        return Reply(401, (*_TEXT, ("WWW-Authenticate", "Bearer")), b"a valid token is needed\n")
