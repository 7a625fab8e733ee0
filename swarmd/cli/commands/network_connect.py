"""``swarmctl network connect`` and ``disconnect``: single containers of this node in the swarm's networks."""

from __future__ import annotations

import click

from swarmd.cli import session
from swarmd.cli.errors import DaemonError
from swarmd.cli.grammar import Command, switch


@click.command("connect", cls=Command)
@click.option("--alias", "aliases", metavar="list", multiple=True, help="Further name of the container there")
@click.option("--ip", default="", help="Address it is to have (any)")
@click.option("--ip6", default="", help="IPv6 address it is to have (any)")
@click.argument("network")
@click.argument("container")
def connect(network: str, container: str, aliases: tuple[str, ...], ip: str, ip6: str) -> None:
    """Connect a single container of this node to a network."""
    from swarmd.rpc.v1 import containers_pb2, types_pb2

    wanted = types_pb2.NetworkAttachment(
        target=network, aliases=aliases, addresses=[address for address in (ip, ip6) if address]
    )
    with session.open_client() as client:
        client.containers.ConnectNetwork(containers_pb2.ConnectNetworkRequest(ref=container, network=wanted))


@click.command("disconnect", cls=Command)
@switch("-f", "--force", text="Also on another node, or one that is down (asked of a manager)")
@click.argument("network")
@click.argument("container")
def disconnect(network: str, container: str, force: bool | None) -> None:
    """Disconnect a single container of this node from a network."""
    from swarmd.rpc.v1 import containers_pb2, networks_pb2

    with session.open_client() as client:
        try:
            client.containers.DisconnectNetwork(
                containers_pb2.DisconnectNetworkRequest(ref=container, network=network)
            )
        except DaemonError as error:
            if not force or error.kind not in ("not_found", "invalid"):
                raise
            client.networks.ReleaseContainer(
                networks_pb2.ReleaseContainerRequest(network=network, container=container)
            )
