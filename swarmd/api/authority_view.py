"""The authority on the wire: its root, and how far the way to another one is."""

from __future__ import annotations

from swarmd.control.authority import Progress
from swarmd.model.objects import Cluster
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.security import ca, roots, tokens


def authority_view(cluster: Cluster, progress: Progress | None) -> pb.GetAuthorityResponse:
    """What ``swarm ca`` shows."""
    response = pb.GetAuthorityResponse(root=_root(cluster.root_ca))
    if cluster.rotation is None or progress is None:
        return response
    response.next.CopyFrom(_root(cluster.rotation.root_ca))
    response.phase = cluster.rotation.phase.value
    response.nodes, response.trusting = progress.nodes, progress.trusting
    response.certified = progress.certified
    for one in progress.awaited:
        response.awaited.add(
            id=one.node.id,
            hostname=one.node.description.hostname,
            state=one.node.status.state.value,
            reason=one.reason,
        )
    return response


def _root(certificate_pem: bytes) -> pb.Root:
    return pb.Root(
        certificate_pem=certificate_pem,
        digest=tokens.ca_digest(certificate_pem),
        subject=roots.subject(certificate_pem),
        valid_until=ca.validity(certificate_pem)[1],
    )
