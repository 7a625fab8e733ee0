"""The RegistryNames service of a leading manager: what nodes ask of the swarm's registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from swarmd.control.registry import Registry
from swarmd.image.registry.messages import from_message, to_message
from swarmd.model.errors import SwarmError
from swarmd.rpc import errors
from swarmd.rpc.v1 import agent_pb2 as pb
from swarmd.rpc.v1 import agent_pb2_grpc
from swarmd.security import peer

T = TypeVar("T")

# gRPC method names are the protocol's.
# ruff: noqa: N802


class RegistryNamesServer(agent_pb2_grpc.RegistryNamesServicer):
    """``leading``: the registry once this manager leads and is current; raises Unavailable otherwise."""

    def __init__(self, cluster_id: Callable[[], str], leading: Callable[[], Awaitable[Registry]]) -> None:
        self._cluster_id = cluster_id
        self._leading = leading

    async def FindManifest(self, request: pb.FindManifestRequest, context: Any) -> pb.FindManifestResponse:
        async def answer(registry: Registry, caller: str) -> pb.FindManifestResponse:
            found = registry.find(request.repository, request.reference)
            return pb.FindManifestResponse(manifest=to_message(found) if found is not None else None)

        return await self._answer(context, answer)

    async def PutManifest(self, request: pb.PutManifestRequest, context: Any) -> pb.PutManifestResponse:
        async def answer(registry: Registry, caller: str) -> pb.PutManifestResponse:
            await registry.put(
                request.repository,
                from_message(request.manifest),
                tuple(request.tags),
                holder=caller,
                present=request.present,
            )
            return pb.PutManifestResponse()

        return await self._answer(context, answer)

    async def DeleteTag(self, request: pb.DeleteTagRequest, context: Any) -> pb.DeleteTagResponse:
        async def answer(registry: Registry, caller: str) -> pb.DeleteTagResponse:
            return pb.DeleteTagResponse(found=await registry.delete_tag(request.repository, request.tag))

        return await self._answer(context, answer)

    async def DeleteManifest(
        self, request: pb.DeleteManifestRequest, context: Any
    ) -> pb.DeleteManifestResponse:
        async def answer(registry: Registry, caller: str) -> pb.DeleteManifestResponse:
            return pb.DeleteManifestResponse(found=await registry.delete(request.repository, request.digest))

        return await self._answer(context, answer)

    async def ListTags(self, request: pb.ListTagsRequest, context: Any) -> pb.ListTagsResponse:
        async def answer(registry: Registry, caller: str) -> pb.ListTagsResponse:
            tags = registry.tags(request.repository)
            return pb.ListTagsResponse(found=tags is not None, tags=tags)

        return await self._answer(context, answer)

    async def ListReferrers(self, request: pb.ListReferrersRequest, context: Any) -> pb.ListReferrersResponse:
        async def answer(registry: Registry, caller: str) -> pb.ListReferrersResponse:
            found = registry.referrers(request.repository, request.digest)
            return pb.ListReferrersResponse(manifests=[to_message(one) for one in found])

        return await self._answer(context, answer)

    async def ListRepositories(
        self, request: pb.ListRepositoriesRequest, context: Any
    ) -> pb.ListRepositoriesResponse:
        async def answer(registry: Registry, caller: str) -> pb.ListRepositoriesResponse:
            return pb.ListRepositoriesResponse(repositories=registry.repositories())

        return await self._answer(context, answer)

    async def HoldsBlob(self, request: pb.HoldsBlobRequest, context: Any) -> pb.HoldsBlobResponse:
        async def answer(registry: Registry, caller: str) -> pb.HoldsBlobResponse:
            return pb.HoldsBlobResponse(holds=registry.holds(request.repository, request.digest))

        return await self._answer(context, answer)

    async def _answer(self, context: Any, answer: Callable[[Registry, str], Awaitable[T]]) -> T:
        try:
            caller = peer.require(context, self._cluster_id()).node_id
            return await answer(await self._leading(), caller)
        except SwarmError as error:
            await errors.abort(context, error)
