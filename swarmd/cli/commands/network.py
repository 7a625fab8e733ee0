"""``swarmctl network``: the networks of the swarm, with what every node has of its own beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.grammar import Command, F, Group, switch

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.cli.views_container import Json

_HERE = "swarmd.cli.commands"
_FILTERS = ("driver", "id", "label", "name", "scope", "type")
_REFUSED = {
    "ingress": "the swarm makes its ingress network itself",
    "scope": "every network that is made here is of the whole swarm",
    "config_only": "networks of single nodes are not made by the swarm",
    "config_from": "networks of single nodes are not made by the swarm",
    "ipam_opt": "addresses are given by the swarm itself, which has no options",
}


@click.group(
    "network",
    cls=Group,
    lazy={
        "connect": f"{_HERE}.network_connect:connect",
        "disconnect": f"{_HERE}.network_connect:disconnect",
        "doctor": f"{_HERE}.network_doctor:doctor",
        "trace": f"{_HERE}.network_trace:trace",
    },
)
def group() -> None:
    """Manage networks."""


group.aliases = {"list": "ls", "remove": "rm"}


def _making(command: F) -> F:
    for decorate in (
        click.argument("name", metavar="NETWORK"),
        click.option("--scope", default="", help="Refused: all are of the swarm"),
        click.option("-o", "--opt", "options", metavar="map", multiple=True,
                     help="Options: encrypted, com.docker.network.driver.mtu=BYTES"),
        click.option("--label", "labels", metavar="list", multiple=True, help="Set metadata on a network"),
        switch("--ipv6", text="Give it an IPv6 prefix as well"),
        switch("--ipv4", text="It has an IPv4 prefix (it always has)"),
        click.option("--ipam-opt", metavar="map", multiple=True, help="Refused"),
        click.option("--ipam-driver", default="default", help="default is the only one"),
        click.option("--ip-range", "ranges", metavar="PREFIX", multiple=True,
                     help="Give addresses of this part of the subnet"),
        switch("--internal", text="No way out of it"),
        switch("--ingress", text="Refused: the swarm makes that one itself"),
        click.option("--gateway", "gateways", metavar="ADDRESS", multiple=True,
                     help="Address of the subnet that no task gets (its first)"),
        click.option("-d", "--driver", default="overlay", help="Driver: overlay"),
        switch("--config-only", text="Refused"),
        click.option("--config-from", default="", help="Refused"),
        click.option("--aux-address", "reserved", metavar="NAME=ADDRESS", multiple=True,
                     help="An address that nobody gets"),
        switch("--attachable", text="Single containers may join it"),
        click.option("--subnet", "subnets", metavar="PREFIX", multiple=True,
                     help="Its prefix (default: one of the swarm's pool)"),
    ):  # fmt: skip
        command = decorate(command)
    return command


@group.command("create", cls=Command)
@_making
def create(
    name: str, driver: str, subnets: tuple[str, ...], gateways: tuple[str, ...], ranges: tuple[str, ...],
    reserved: tuple[str, ...], attachable: bool | None, internal: bool | None, ipv6: bool | None,
    ipv4: bool | None, labels: tuple[str, ...], options: tuple[str, ...], ipam_driver: str, **refused: object,
) -> None:  # fmt: skip
    """Create a network."""
    from swarmd.cli.network_text import parse_options, parse_subnets
    from swarmd.cli.spec_text import parse_labels
    from swarmd.rpc.v1 import networks_pb2, types_pb2

    _refuse(refused, ipv4=ipv4, ipam_driver=ipam_driver)
    try:
        settings, encrypted = parse_options(options)
        spec = types_pb2.NetworkSpec(
            name=name,
            labels=parse_labels(labels),
            driver=driver,
            attachable=bool(attachable),
            internal=bool(internal),
            encrypted=encrypted,
            ipv6=bool(ipv6),
            options=settings,
        )
        for one in parse_subnets(subnets, gateways, ranges, reserved):
            spec.subnets.add(**one._asdict() | {"reserved": dict(one.reserved)})
    except ValueError as error:
        raise CliError(str(error)) from None
    with session.open_client() as client:
        answer = client.networks.CreateNetwork(networks_pb2.CreateNetworkRequest(spec=spec))
    session.warn_all(answer.warnings)
    click.echo(answer.id)


@group.command("ls", cls=Command)
@click.option("-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only such networks")
@click.option("--format", "template", help="table, json, or a Go template")
@switch("--no-trunc", text="Do not shorten IDs")
@switch("-q", "--quiet", text="Only display network IDs")
def ls(filters: tuple[str, ...], template: str | None, no_trunc: bool | None, quiet: bool | None) -> None:
    """List networks: the swarm's, and those that every node has of its own."""
    from swarmd.cli.rows_network import NETWORKS, network_rows
    from swarmd.rpc.v1 import networks_pb2

    wanted = session.parse_filters(filters, _FILTERS)
    for value in wanted.get("type", set()) - {"builtin", "custom"}:
        raise CliError(f"invalid filter 'type={value}': write builtin or custom")
    with session.open_client() as client:
        views = client.networks.ListNetworks(networks_pb2.ListNetworksRequest()).networks
    rows = network_rows(views, lambda row: _is_wanted(row, wanted))
    if not no_trunc:
        rows = [row | {"ID": row["ID"][:12]} for row in rows]
    session.print_listing(NETWORKS, rows, template, quiet)


@group.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@switch("-v", "--verbose", text="With its services, their tasks, and the nodes that have some")
@click.argument("refs", nargs=-1, required=True, metavar="NETWORK [NETWORK...]")
def inspect(template: str | None, verbose: bool | None, refs: tuple[str, ...]) -> None:
    """Display detailed information on one or more networks."""
    with session.open_client() as client:
        session.inspect(refs, lambda ref: _found(client, ref, verbose=bool(verbose)), template)


@group.command("rm", cls=Command)
@switch("-f", "--force", text="Do not mind those that are not there")
@click.argument("refs", nargs=-1, required=True, metavar="NETWORK [NETWORK...]")
def rm(force: bool | None, refs: tuple[str, ...]) -> None:
    """Remove one or more networks."""
    from swarmd.cli.rows_network import OWN
    from swarmd.rpc.v1 import networks_pb2

    def one(ref: str) -> None:
        if ref in OWN:
            raise CliError(
                f"Error response from daemon: {ref} is a pre-defined network and cannot be removed"
            )
        try:
            client.networks.RemoveNetwork(networks_pb2.RemoveNetworkRequest(ref=ref))
        except DaemonError as error:
            if not force or error.kind != "not_found":
                raise

    with session.open_client() as client:
        session.each(refs, one)


@group.command("prune", cls=Command)
@click.option("--filter", "filters", metavar="KEY=VALUE", multiple=True,
              help="label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME")  # fmt: skip
@switch("-f", "--force", text="Do not prompt for confirmation")
def prune(filters: tuple[str, ...], force: bool | None) -> None:
    """Remove the networks that no service uses."""
    from swarmd.cli.units import parse_since
    from swarmd.rpc.v1 import networks_pb2

    wanted = session.parse_filters(filters, ("label", "label!", "until"))
    try:
        until = min((parse_since(text, session.now()) for text in wanted.get("until", ())), default=0.0)
    except ValueError as error:
        raise CliError(str(error)) from None
    warning = "WARNING! This will remove all custom networks not used by at least one container."
    if not force and not session.is_sure(warning):
        raise CliError("network prune has been cancelled")
    request = networks_pb2.PruneNetworksRequest(
        labels=sorted(wanted.get("label", ())), without=sorted(wanted.get("label!", ())), until=until
    )
    with session.open_client() as client:
        deleted = client.networks.PruneNetworks(request).deleted
    if deleted:
        session.print_lines(["Deleted Networks:", *deleted, ""])


def _refuse(given: dict[str, object], *, ipv4: bool | None, ipam_driver: str) -> None:
    """Flags of Docker's that would do nothing here."""
    for name, reason in _REFUSED.items():
        if given.get(name):
            raise CliError(f"--{name.replace('_', '-')} cannot be given: {reason}")
    if ipv4 is False:
        raise CliError("--ipv4=false cannot be given: every network has an IPv4 prefix")
    if ipam_driver != "default":
        raise CliError(f"unknown IPAM driver {ipam_driver}: default is the only one")


def _found(client: Client, ref: str, *, verbose: bool) -> Json:
    from swarmd.cli.rows_network import OWN, network, own_network
    from swarmd.rpc.v1 import networks_pb2

    if ref in OWN:
        return own_network(ref)
    try:
        answer = client.networks.GetNetwork(networks_pb2.GetNetworkRequest(ref=ref, verbose=verbose))
    except DaemonError as error:
        if error.kind == "not_found":
            raise CliError(f"Error response from daemon: network {ref} not found") from None
        raise
    return network(answer, verbose=verbose)


def _is_wanted(it: dict[str, str], wanted: dict[str, set[str]]) -> bool:
    labels = [
        (key, value) for key, _, value in (one.partition("=") for one in it["Labels"].split(",")) if key
    ]
    return (
        session.matches(wanted, "driver", it["Driver"])
        and session.matches(wanted, "id", it["ID"], prefix=True)
        and any(part in it["Name"] for part in wanted.get("name", {""}))
        and session.matches(wanted, "scope", it["Scope"])
        and session.matches(wanted, "type", it["Type"])
        and session.matches_labels(wanted, "label", labels)
    )
