"""Other limits for a container that runs: those that were named, over those it has."""

from __future__ import annotations

import msgspec

from swarmd.model.errors import Invalid, NotFound
from swarmd.node.containers.local import LocalContainers
from swarmd.node.runtime.port import Limits
from swarmd.rpc.v1 import containers_pb2 as pb


async def change(here: LocalContainers, container_id: str, request: pb.SetLimitsRequest) -> None:
    """Raises Invalid when nothing is asked for, and what the runtime says of values."""
    config = here.runtime.config(container_id)
    if config is None:
        raise NotFound(f"No such container: {container_id}")
    await here.runtime.update(container_id, merged(config.limits, request))


def merged(limits: Limits, request: pb.SetLimitsRequest) -> Limits:
    """``limits`` with what the request names.  Raises Invalid when it names nothing."""
    named = {
        field.name: getattr(request, field.name)
        for field in msgspec.structs.fields(Limits)
        if field.name in pb.SetLimitsRequest.DESCRIPTOR.fields_by_name and request.HasField(field.name)  # type: ignore[arg-type]
    }
    if not named:
        raise Invalid("nothing to change: name at least one limit, such as --memory")
    return msgspec.structs.replace(limits, **named)
