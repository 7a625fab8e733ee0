"""The rows of ``secret ls``, and a secret in Docker's JSON shape.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmd.cli.listing import Layout, Row
from swarmd.cli.units import human_duration, rfc3339
from swarmd.cli.views_container import Json

if TYPE_CHECKING:
    from swarmd.rpc.v1 import secrets_pb2

SECRETS = Layout(
    ("ID", "Name", "Driver", "CreatedAt", "UpdatedAt"),
    {
        "ID": "ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "CreatedAt": "CREATED",
        "UpdatedAt": "UPDATED",
        "Labels": "LABELS",
    },
)


def secret_rows(secrets: Iterable[secrets_pb2.SecretView], now: float) -> list[Row]:
    """One row a secret, in the order given."""
    return [
        {
            "ID": it.id,
            "Name": it.name,
            "Driver": "",
            "CreatedAt": f"{human_duration(now - it.created_at)} ago",
            "UpdatedAt": f"{human_duration(now - it.updated_at)} ago",
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(it.labels.items())),
        }
        for it in secrets
    ]


def secret(it: secrets_pb2.SecretView) -> Json:
    """A secret, for ``inspect``."""
    return {
        "ID": it.id,
        "Version": {"Index": it.version},
        "CreatedAt": rfc3339(it.created_at),
        "UpdatedAt": rfc3339(it.updated_at),
        "Spec": {"Name": it.name, "Labels": dict(it.labels)},
    }
