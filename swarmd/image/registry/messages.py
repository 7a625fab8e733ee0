"""Manifests of the swarm's registry as nodes tell each other of them."""

from __future__ import annotations

from swarmd.image.registry.core.pushed import digest_of
from swarmd.image.registry.core.routes import ALGORITHMS
from swarmd.image.registry.port import Stored
from swarmd.model.errors import Invalid
from swarmd.rpc.v1 import agent_pb2


def to_message(stored: Stored) -> agent_pb2.StoredManifest:
    return agent_pb2.StoredManifest(
        digest=stored.digest,
        media_type=stored.media_type,
        data=stored.data,
        blobs=stored.blobs,
        subject=stored.subject,
        artifact_type=stored.artifact_type,
        annotations=stored.annotations,
    )


def from_message(message: agent_pb2.StoredManifest) -> Stored:
    """Raises Invalid for a digest that is not that of the bytes: no node gives a manifest another's name."""
    algorithm = message.digest.partition(":")[0]
    is_right = algorithm in ALGORITHMS and digest_of(message.data, algorithm) == message.digest
    if message.data and not is_right:
        raise Invalid(f"the manifest {message.digest[:160]} is not what was sent under that name")
    return Stored(
        digest=message.digest,
        media_type=message.media_type,
        data=message.data,
        blobs=tuple(message.blobs),
        subject=message.subject,
        artifact_type=message.artifact_type,
        annotations=dict(message.annotations),
    )
