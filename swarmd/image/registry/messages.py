"""Manifests of the swarm's registry as nodes tell each other of them."""

from __future__ import annotations

from swarmd.image.registry.port import Stored
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
    return Stored(
        digest=message.digest,
        media_type=message.media_type,
        data=message.data,
        blobs=tuple(message.blobs),
        subject=message.subject,
        artifact_type=message.artifact_type,
        annotations=dict(message.annotations),
    )
