"""The names of the swarm's registry on any node: a manager reads its own copy, others ask the leader.

A manifest is looked up by digest without asking anybody: it never changes.  What a tag means is as new as any
push that was acknowledged before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from swarmd.control.registry import Registry
from swarmd.daemon.member import Member
from swarmd.image.port import Content
from swarmd.image.registry.messages import from_message, to_message
from swarmd.image.registry.port import Stored
from swarmd.kit.clock import Clock
from swarmd.model.errors import NotFound, OutcomeUnknown, Unavailable
from swarmd.node.distribution import parts
from swarmd.rpc.errors import calling
from swarmd.rpc.v1 import agent_pb2 as pb
from swarmd.rpc.v1 import agent_pb2_grpc

T = TypeVar("T")

READ_LIMIT = 5.0
PUSH_LIMIT = 1800.0
"""Seconds: before a push is acknowledged, managers fetch what was pushed."""

PATIENCE = 8.0
"""Seconds for which a call is made again while no leader is known, or it changes."""

RETRY = 0.3


class SwarmNames:
    """:class:`swarmd.image.registry.port.Names` of the swarm that this node is in.

    ``member`` raises SwarmError while it is in none.
    """

    def __init__(self, member: Callable[[], Member], content: Content, clock: Clock) -> None:
        self._member = member
        self._content = content
        self._clock = clock

    async def find(self, repository: str, reference: str) -> Stored | None:
        """By tag or digest."""
        own = self._own()
        found = own.find(repository, reference) if own is not None and ":" in reference else None
        if found is None:
            request = pb.FindManifestRequest(repository=repository, reference=reference)
            found = await self._read(
                lambda registry: registry.find(repository, reference),
                "FindManifest",
                request,
                lambda answer: from_message(answer.manifest) if answer.HasField("manifest") else None,
            )
        return await self._whole(found) if found is not None else None

    async def put(self, repository: str, manifest: Stored, tags: tuple[str, ...] = ()) -> None:
        """Keep a manifest whose blobs are stored, and point ``tags`` to it."""
        needed = (manifest.digest, *manifest.blobs)
        with self._content.holding(needed):
            await self._content.put(manifest.data, manifest.digest)
            present = [digest for digest in dict.fromkeys(needed) if self._content.has(digest)]
            request = pb.PutManifestRequest(
                repository=repository, manifest=to_message(manifest), tags=tags, present=present
            )
            await self._ask("PutManifest", request, PUSH_LIMIT)
        self._member().working.session.images_changed()

    async def delete_tag(self, repository: str, tag: str) -> bool:
        """Whether it was there."""
        answer = await self._ask("DeleteTag", pb.DeleteTagRequest(repository=repository, tag=tag))
        await self._catch_up()
        return bool(answer.found)

    async def delete(self, repository: str, digest: str) -> bool:
        """A manifest with all its tags; whether it was there."""
        request = pb.DeleteManifestRequest(repository=repository, digest=digest)
        answer = await self._ask("DeleteManifest", request)
        await self._catch_up()
        return bool(answer.found)

    async def tags(self, repository: str) -> list[str] | None:
        """Sorted; None when there is no such repository."""
        return await self._read(
            lambda registry: registry.tags(repository),
            "ListTags",
            pb.ListTagsRequest(repository=repository),
            lambda answer: list(answer.tags) if answer.found else None,
        )

    async def referrers(self, repository: str, digest: str) -> list[Stored]:
        """Manifests about that one, the oldest first."""
        return await self._read(
            lambda registry: registry.referrers(repository, digest),
            "ListReferrers",
            pb.ListReferrersRequest(repository=repository, digest=digest),
            lambda answer: [from_message(one) for one in answer.manifests],
        )

    async def repositories(self) -> list[str]:
        """Sorted."""
        return await self._read(
            lambda registry: registry.repositories(),
            "ListRepositories",
            pb.ListRepositoriesRequest(),
            lambda answer: list(answer.repositories),
        )

    async def holds(self, repository: str, digest: str) -> bool:
        """Whether some manifest of the repository refers to that blob."""
        own = self._own()
        if own is not None and own.holds(repository, digest):
            return True
        return await self._read(
            lambda registry: registry.holds(repository, digest),
            "HoldsBlob",
            pb.HoldsBlobRequest(repository=repository, digest=digest),
            lambda answer: bool(answer.holds),
        )

    async def _catch_up(self) -> None:
        """What is deleted is not found here any more, though digests are looked up without asking anybody."""
        managing = self._member().managing
        if managing is not None:
            with contextlib.suppress(Unavailable):  # it is deleted all the same
                await managing.raft.read_index(timeout=READ_LIMIT)

    def _own(self) -> Registry | None:
        managing = self._member().managing
        return managing.cases.registry if managing is not None else None

    async def _read(
        self, here: Callable[[Registry], T], method: str, request: Any, there: Callable[[Any], T]
    ) -> T:
        managing = self._member().managing
        if managing is None:
            return there(await self._ask(method, request))
        # This manager may be behind the others: it looks once it has applied what was acknowledged before.
        await managing.raft.read_index(timeout=READ_LIMIT)
        return here(managing.cases.registry)

    async def _whole(self, found: Stored) -> Stored:
        """With its bytes, which are a blob when the manifest is a large one."""
        if found.data:
            return found
        try:
            data = await parts.document(self._member().working.blobs, self._content, found.digest)
        except NotFound as error:
            raise Unavailable(f"manifest {found.digest} cannot be had at the moment: {error}") from error
        return msgspec.structs.replace(found, data=data)

    async def _ask(self, method: str, request: Any, limit: float = READ_LIMIT) -> Any:
        """The leader's answer.  These calls may be made twice; only a deletion answers differently then."""
        deadline = self._clock.monotonic() + PATIENCE
        while True:
            try:
                return await self._once(method, request, limit)
            except Unavailable as error:
                unsure = isinstance(error, OutcomeUnknown) and method.startswith("Delete")
                if unsure or self._clock.monotonic() >= deadline:
                    raise
            await self._clock.sleep(RETRY)

    async def _once(self, method: str, request: Any, limit: float) -> Any:
        stub = agent_pb2_grpc.RegistryNamesStub(self._member().working.session.leader_channel())
        call: Callable[..., Awaitable[Any]] = getattr(stub, method)
        with calling():
            return await call(request, timeout=limit)
