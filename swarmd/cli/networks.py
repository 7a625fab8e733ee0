"""Networks that a command names: which of the swarm's are meant, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.network_text import Attachment
from swarmd.cli.rows_network import OWN

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import types_pb2


def identified(
    client: Client, attachments: Iterable[Attachment], *, lenient: bool = False
) -> list[Attachment]:
    """With ids of networks as targets.  Raises CliError for one that is not there, unless ``lenient``."""
    return [one._replace(target=_identity(client, one.target, lenient)) for one in attachments]


def of_service(client: Client, service: types_pb2.Service) -> list[types_pb2.Network]:
    """The networks that a service speaks of; none are asked for when it speaks of none."""
    from swarmd.rpc.v1 import networks_pb2

    spoken_of = {one.target for one in service.spec.template.networks} | {
        one.network_id for one in service.vips
    }
    if not spoken_of - OWN.keys():
        return []
    views = client.networks.ListNetworks(networks_pb2.ListNetworksRequest()).networks
    return [view.network for view in views if view.network.id in spoken_of]


def _identity(client: Client, ref: str, lenient: bool) -> str:
    from swarmd.rpc.v1 import networks_pb2

    if ref in OWN:
        return ref
    try:
        return client.networks.GetNetwork(networks_pb2.GetNetworkRequest(ref=ref)).network.network.id
    except DaemonError as error:
        if error.kind != "not_found":
            raise
        if lenient:
            return ref
        raise CliError(f"network {ref} not found: make it with `swarmctl network create {ref}`") from None
