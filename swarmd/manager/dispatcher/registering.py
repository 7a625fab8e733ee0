"""What a node's row becomes when it opens a session."""

from __future__ import annotations

from swarmd.model.errors import Invalid
from swarmd.model.objects import Node, NodeCertificate, NodeDescription
from swarmd.model.replace import replace
from swarmd.model.states import Availability, NodeState
from swarmd.rpc import codec
from swarmd.rpc.v1 import agent_pb2


def registered(node: Node, hello: agent_pb2.AgentHello) -> Node:
    """The row with what the node says of itself.  Raises Invalid for an availability that is none."""
    description = codec.from_proto(NodeDescription, hello.description)
    spec = node.spec
    if not node.description.hostname and hello.availability:
        spec = replace(spec, availability=_availability(hello.availability))
    status = replace(
        node.status,
        state=NodeState.READY,
        message="",
        address=hello.address,
        certificate=codec.from_proto(NodeCertificate, hello.certificate),
    )
    return replace(node, spec=spec, description=description, status=status, raft_address=hello.raft_address)


def _availability(text: str) -> Availability:
    try:
        return Availability(text)
    except ValueError as error:
        raise Invalid(f'invalid Availability: "{text}": use active, pause or drain') from error
