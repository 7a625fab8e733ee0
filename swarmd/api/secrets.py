"""The Secrets service: what is kept for services, which nobody is told again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from swarmd.control.secrets import Secrets
from swarmd.model.errors import SwarmError
from swarmd.model.objects import Secret
from swarmd.rpc import errors
from swarmd.rpc.v1 import secrets_pb2 as pb
from swarmd.rpc.v1 import secrets_pb2_grpc

# gRPC method names are the protocol's.
# ruff: noqa: N802


class SecretsServer(secrets_pb2_grpc.SecretsServicer):
    """What a leader answers; ``cases``: those of the manager this node is now."""

    def __init__(self, cases: Callable[[], Secrets]) -> None:
        self._cases = cases

    async def CreateSecret(self, request: pb.CreateSecretRequest, context: Any) -> pb.CreateSecretResponse:
        try:
            created = await self._cases().create(request.name, request.data, dict(request.labels))
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.CreateSecretResponse(id=created)

    async def ListSecrets(self, request: pb.ListSecretsRequest, context: Any) -> pb.ListSecretsResponse:
        try:
            found = self._cases().all()
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.ListSecretsResponse(secrets=[view(row) for row in found])

    async def GetSecret(self, request: pb.GetSecretRequest, context: Any) -> pb.GetSecretResponse:
        try:
            found = self._cases().get(request.ref)
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.GetSecretResponse(secret=view(found))

    async def RemoveSecret(self, request: pb.RemoveSecretRequest, context: Any) -> pb.RemoveSecretResponse:
        try:
            removed = await self._cases().remove(request.ref)
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.RemoveSecretResponse(id=removed)


def add_secrets(server: grpc.aio.Server, cases: Callable[[], Secrets]) -> None:
    """Let ``server`` answer."""
    secrets_pb2_grpc.add_SecretsServicer_to_server(SecretsServer(cases), server)


def view(row: Secret) -> pb.SecretView:
    """A secret as users see it: without its data."""
    return pb.SecretView(
        id=row.id,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        name=row.name,
        labels=row.labels,
    )
