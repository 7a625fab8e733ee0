"""Who a call is for: what its proto file declares (``options.proto``), as the generated code keeps it."""

from __future__ import annotations

import functools

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from swarmd.rpc.v1 import options_pb2

LOCAL = options_pb2.AUDIENCE_LOCAL
USERS = options_pb2.AUDIENCE_USERS
MANAGERS = options_pb2.AUDIENCE_MANAGERS
MEMBERS = options_pb2.AUDIENCE_MEMBERS
NOBODY = options_pb2.AUDIENCE_UNSPECIFIED


def declared(method: MethodDescriptor) -> int:
    """The audience of a method: its own, or else its service's; ``NOBODY`` when neither says one."""
    own: int = method.GetOptions().Extensions[options_pb2.audience]
    service: int = method.containing_service.GetOptions().Extensions[options_pb2.default_audience]
    return own or service


@functools.cache
def audience_of(path: str) -> int:
    """The audience of the method that gRPC calls ``path`` ("/package.Service/Method")."""
    name = path.removeprefix("/").replace("/", ".")
    try:
        return declared(descriptor_pool.Default().FindMethodByName(name))
    except KeyError:
        return NOBODY
