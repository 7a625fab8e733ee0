"""``swarmctl volume``: the volumes of one node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.grammar import Command, Group, switch

if TYPE_CHECKING:
    from swarmd.rpc.v1 import node_pb2

_FILTERS = ("dangling", "driver", "label", "name")


@click.group("volume", cls=Group)
def group() -> None:
    """Manage volumes of this node."""


group.aliases = {"list": "ls", "remove": "rm"}


@group.command("create", cls=Command)
@click.option("-d", "--driver", default="local", metavar="local", help="Volume driver: local is the only one")
@click.option("--label", "labels", metavar="list", multiple=True, help="Set metadata for a volume")
@click.argument("name", required=False, default="", metavar="[VOLUME]")
def create(driver: str, labels: tuple[str, ...], name: str) -> None:
    """Create a volume."""
    from swarmd.cli.spec_text import parse_labels
    from swarmd.rpc.v1 import node_pb2

    try:
        found = parse_labels(labels)
    except ValueError as error:
        raise CliError(str(error)) from None
    with session.open_client() as client:
        request = node_pb2.CreateVolumeRequest(name=name, driver=driver, labels=found)
        click.echo(client.node.CreateVolume(request).volume.name)


@group.command("ls", cls=Command)
@click.option("-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only such volumes")
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-s", "--size", text="Measure what each takes on the disk")
@switch("-q", "--quiet", text="Only display volume names")
def ls(filters: tuple[str, ...], template: str | None, size: bool | None, quiet: bool | None) -> None:
    """List volumes."""
    from swarmd.cli.rows_volume import MEASURED, VOLUMES, volume_rows
    from swarmd.rpc.v1 import node_pb2

    wanted = session.parse_filters(filters, _FILTERS)
    dangling = session.truth(wanted.pop("dangling", ()), "dangling")
    with session.open_client() as client:
        volumes = client.node.ListVolumes(node_pb2.ListVolumesRequest(size=bool(size))).volumes
    rows = volume_rows(it for it in volumes if _is_wanted(it, wanted, dangling))
    session.print_listing(MEASURED if size else VOLUMES, rows, template, quiet)


@group.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@switch("-s", "--size", text="Measure what each takes on the disk")
@click.argument("names", nargs=-1, required=True, metavar="VOLUME [VOLUME...]")
def inspect(template: str | None, size: bool | None, names: tuple[str, ...]) -> None:
    """Display detailed information on one or more volumes."""
    from swarmd.cli.rows_volume import volume
    from swarmd.rpc.v1 import node_pb2

    def one(name: str) -> object:
        request = node_pb2.GetVolumeRequest(name=name, size=bool(size))
        return volume(client.node.GetVolume(request).volume)

    with session.open_client() as client:
        session.inspect(names, one, template)


@group.command("rm", cls=Command)
@switch("-f", "--force", text="Do not mind those that are not there")
@click.argument("names", nargs=-1, required=True, metavar="VOLUME [VOLUME...]")
def rm(force: bool | None, names: tuple[str, ...]) -> None:
    """Remove one or more volumes."""
    from swarmd.rpc.v1 import node_pb2

    def one(name: str) -> None:
        try:
            client.node.RemoveVolume(node_pb2.RemoveVolumeRequest(name=name))
        except DaemonError as error:
            if not force or error.kind != "not_found":
                raise

    with session.open_client() as client:
        session.each(names, one)


@group.command("prune", cls=Command)
@switch("everything", "-a", "--all", text="Remove all unused volumes, not just anonymous ones")
@click.option("--filter", "filters", metavar="label=KEY[=VALUE]", multiple=True, help="Only such volumes")
@switch("-f", "--force", text="Do not prompt for confirmation")
def prune(everything: bool | None, filters: tuple[str, ...], force: bool | None) -> None:
    """Remove unused volumes of this node, by default those that nobody gave a name."""
    from swarmd.cli.units import format_decimal
    from swarmd.rpc.v1 import node_pb2

    labels = session.parse_filters(filters, ("label",)).get("label", set())
    which = "all" if everything else "anonymous"
    warning = f"WARNING! This will remove {which} local volumes not used by at least one container."
    if not force and not session.is_sure(warning):
        raise CliError("volume prune has been cancelled")
    with session.open_client() as client:
        answer = client.node.PruneVolumes(
            node_pb2.PruneVolumesRequest(all=bool(everything), labels=sorted(labels))
        )
    if answer.deleted:
        session.print_lines(["Deleted Volumes:", *answer.deleted, ""])
    click.echo(f"Total reclaimed space: {format_decimal(answer.reclaimed)}")


def _is_wanted(it: node_pb2.Volume, wanted: dict[str, set[str]], dangling: bool | None) -> bool:
    return (
        dangling in (None, not it.users)
        and any(part in it.name for part in wanted.get("name", {""}))
        and session.matches(wanted, "driver", it.driver)
        and session.matches_labels(wanted, "label", it.labels.items())
    )
