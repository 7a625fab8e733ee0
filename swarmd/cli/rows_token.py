"""The rows of ``swarm token ls``, and a token in JSON.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmd.cli.listing import Layout, Row
from swarmd.cli.units import human_duration, rfc3339
from swarmd.cli.views_container import Json, filled

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2

TOKENS = Layout(
    ("ID", "Role", "Labels", "UsesLeft", "Expires", "Description"),
    {
        "ID": "ID",
        "Role": "ROLE",
        "Labels": "LABELS",
        "UsesLeft": "USES LEFT",
        "Expires": "EXPIRES",
        "Description": "DESCRIPTION",
        "Availability": "AVAILABILITY",
        "State": "STATE",
        "Uses": "USES",
        "MaxUses": "MAX USES",
        "CreatedAt": "CREATED AT",
        "ExpiresAt": "EXPIRES AT",
    },
)


def token_rows(views: Iterable[control_pb2.TokenView], now: float) -> list[Row]:
    """One row a token, in the order given."""
    return [
        {
            "ID": view.id,
            "Role": view.role,
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(view.labels.items())),
            "UsesLeft": uses_left(view),
            "Expires": _expires(view, now),
            "Description": view.description,
            "Availability": view.availability.capitalize(),
            "State": view.state,
            "Uses": str(view.uses),
            "MaxUses": str(view.max_uses) if view.max_uses else "unlimited",
            "CreatedAt": rfc3339(view.created_at),
            "ExpiresAt": rfc3339(view.expires_at) if view.expires_at else "never",
        }
        for view in views
    ]


def uses_left(view: control_pb2.TokenView) -> str:
    """``2 of 3``, or ``unlimited``."""
    if not view.max_uses:
        return "unlimited"
    return f"{max(0, view.max_uses - view.uses)} of {view.max_uses}"


def token(view: control_pb2.TokenView) -> Json:
    """A token in the shape that Docker gives its objects."""
    return {
        "ID": view.id,
        "CreatedAt": rfc3339(view.created_at),
        "Role": view.role,
        "Labels": dict(view.labels),
        "Availability": view.availability,
        **filled(Description=view.description),
        **filled(ExpiresAt=rfc3339(view.expires_at) if view.expires_at else None),
        "Uses": view.uses,
        "MaxUses": view.max_uses,
        "State": view.state,
    }


def _expires(view: control_pb2.TokenView, now: float) -> str:
    if not view.expires_at:
        return "never"
    return "expired" if view.state == "expired" else f"in {human_duration(view.expires_at - now).lower()}"
