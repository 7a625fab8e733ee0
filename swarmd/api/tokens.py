"""The part of the Control service that is about join tokens.  It owns no rule."""

from __future__ import annotations

from swarmd.control.tokens import Tokens, Wanted
from swarmd.model.objects import JoinToken
from swarmd.rpc.v1 import control_pb2 as pb


async def create(cases: Tokens, request: pb.CreateTokenRequest) -> pb.CreateTokenResponse:
    """Raises SwarmError."""
    wanted = Wanted(
        role=request.role,
        labels=dict(request.labels),
        availability=request.availability,
        description=request.description,
        lifetime=request.lifetime,
        max_uses=request.max_uses,
    )
    text, row = await cases.create(wanted)
    return pb.CreateTokenResponse(token=text, view=view(cases, row))


def view(cases: Tokens, row: JoinToken) -> pb.TokenView:
    """A token as users see it: without anything of its secret."""
    return pb.TokenView(
        id=row.id,
        role=row.role.value,
        labels=row.labels,
        availability=row.availability.value,
        description=row.description,
        created_at=row.created_at,
        expires_at=row.expires_at,
        max_uses=row.max_uses,
        uses=row.uses,
        state=cases.state(row),
    )
