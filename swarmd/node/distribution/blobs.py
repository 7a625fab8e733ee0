"""Blobs that this node lacks come from nodes that have them, verified by digest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import grpc
import structlog

from swarmd.image.flights import Flights
from swarmd.image.port import Content, Progress
from swarmd.kit.clock import Clock
from swarmd.kit.groups import TaskGroup
from swarmd.model.errors import Invalid, SwarmError
from swarmd.node.distribution import wire
from swarmd.node.distribution.copying import ASKED, Copy
from swarmd.node.distribution.core.choosing import Chooser, Provider
from swarmd.node.distribution.wire import provider_of
from swarmd.rpc.channels import Channels
from swarmd.rpc.errors import calling
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc

ROUNDS = 2
"""A blob that is not what its name says is fetched once more, from others."""

PARALLEL = 3
"""Blobs of one image that are fetched at once."""

SPREAD = 0.15
"""Seconds over which nodes that begin together spread their first questions."""


def silent(item: str, state: str, current: int = 0, total: int = 0) -> None:
    """For whoever is not interested in how it goes."""


class Blobs:
    """This node's way to the blobs of the others.

    ``leader``: a channel to it, raises Unavailable without one.  ``managers``: those this node knows of, who
    are asked last.  ``own``: this node's (id, address).  ``changed``: told after each blob.
    """

    def __init__(
        self,
        content: Content,
        channels: Channels,
        *,
        leader: Callable[[], grpc.aio.Channel],
        managers: Callable[[], Iterable[Provider]],
        own: Callable[[], tuple[str, str]],
        changed: Callable[[], None],
        clock: Clock,
        fraction: Callable[[], float],
    ) -> None:
        self._content = content
        self._channels = channels
        self._leader = leader
        self._managers = managers
        self._own = own
        self._changed = changed
        self._clock = clock
        self._fraction = fraction
        self._flights = Flights()
        self._log = structlog.get_logger()

    async def ensure_blob(
        self,
        digest: str,
        *,
        first: Iterable[Provider] = (),
        progress: Progress = silent,
        patience: int = ASKED,
    ) -> None:
        """Have the blob here.  ``first``: nodes that are known to have it.

        ``patience``: how many times nobody has it before that is believed.

        Raises NotFound when no node has it, Unavailable when those who have it cannot give it, or the disk
        is full, Invalid when what they have is something else.
        """
        async with self._flights.alone(digest):
            if self._content.has(digest):
                return
            with self._content.holding((digest,)):
                await self._copied(digest, list(first), progress, patience)
        self._changed()

    async def ensure_blobs(
        self, digests: Iterable[str], *, first: Iterable[Provider] = (), progress: Progress = silent
    ) -> None:
        """Have all of them, some at once.  Raises as :meth:`ensure_blob` does."""
        known, places = list(first), asyncio.Semaphore(PARALLEL)

        async def one(digest: str) -> None:
            async with places:
                await self.ensure_blob(digest, first=known, progress=progress)

        wanted = [digest for digest in dict.fromkeys(digests) if not self._content.has(digest)]
        # Nodes that begin together begin with different layers, which they then have for each other.
        wanted.sort(key=lambda _: self._fraction())
        try:
            async with TaskGroup() as group:
                for digest in wanted:
                    group.create_task(one(digest), name=f"blob {digest[:19]}")
        except ExceptionGroup as failures:
            known_failures = failures.subgroup(SwarmError)
            raise (known_failures or failures).exceptions[0] from failures

    async def _copied(self, digest: str, first: list[Provider], progress: Progress, patience: int) -> None:
        distrusted: set[str] = set()
        for attempt in range(ROUNDS):
            try:
                await self._copy(digest, first, distrusted, progress, patience)
            except Invalid as error:
                self._log.warning("blob_not_what_it_says", digest=digest, nodes=sorted(distrusted))
                if attempt == ROUNDS - 1:
                    raise Invalid(f"{error} (from the nodes {', '.join(sorted(distrusted))})") from error
            else:
                return

    async def _copy(
        self,
        digest: str,
        first: list[Provider],
        distrusted: set[str],
        progress: Progress,
        patience: int,
    ) -> None:
        own, address = self._own()
        chooser = Chooser(own, self._fraction)
        for node_id in distrusted:
            chooser.lacks(node_id)
        chooser.learn(first)
        if not first:
            await self._clock.sleep(SPREAD * self._fraction())
        ingest = await self._content.ingest(algorithm=digest.partition(":")[0])
        short = digest.rpartition(":")[2][:12]
        copy = Copy(
            digest,
            chooser,
            fetch=lambda provider, part: wire.fetch(self._channels, provider, digest, part),
            locate=lambda: self._locate(digest),
            write=ingest.write,
            clock=self._clock,
            told=lambda current, total: progress(short, "Downloading", current, total),
            patience=patience,
        )
        try:
            await copy.run()
        except BaseException:
            await ingest.cancel()
            raise
        try:
            await ingest.commit(digest)
        except Invalid:
            distrusted.update(copy.sources)
            raise
        progress(short, "Download complete")
        await self._part_from(copy.sources.values(), digest, address)

    async def _part_from(self, sources: Iterable[Provider], digest: str, address: str) -> None:
        """So that those who wait for a place need not wait until ours is forgotten."""
        async with TaskGroup() as group:
            for source in sources:
                group.create_task(
                    wire.tell_done(self._channels, source, digest, address), name=f"done {digest[:19]}"
                )

    async def _locate(self, digest: str) -> list[Provider]:
        """Who has it as the leader knows, and the managers: they have what the swarm keeps."""
        found: list[Provider] = []
        try:
            with calling():
                answer = await agent_pb2_grpc.DispatcherStub(self._leader()).LocateBlobs(
                    agent_pb2.LocateBlobsRequest(digests=[digest]), timeout=5
                )
            found = [provider_of(holder) for one in answer.blobs for holder in one.holders]
        except SwarmError as error:
            self._log.info("blob_not_located", digest=digest, reason=str(error))
        return [*found, *self._managers()]
