"""``swarmctl service`` ls, inspect and rm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.grammar import Command, switch
from swarmd.cli.networks import of_service

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.cli.views_container import Json
    from swarmd.rpc.v1 import control_pb2

_FILTERS = ("id", "label", "mode", "name")


@click.command("ls", cls=Command)
@click.option("-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only services like that")
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-q", "--quiet", text="Only display IDs")
def ls(filters: tuple[str, ...], template: str | None, quiet: bool | None) -> None:
    """List services."""
    from swarmd.cli.rows import SERVICES, service_rows
    from swarmd.rpc.v1 import control_pb2

    wanted = session.parse_filters(filters, _FILTERS)
    with session.open_client() as client:
        views = client.control.ListServices(control_pb2.ListServicesRequest()).services
    rows = service_rows([view for view in views if _wanted(view, wanted)])
    session.print_listing(SERVICES, rows, template, quiet)


@click.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@switch("--pretty", text="Print in a form for people")
@click.argument("refs", nargs=-1, required=True, metavar="SERVICE [SERVICE...]")
def inspect(template: str | None, pretty: bool | None, refs: tuple[str, ...]) -> None:
    """Display detailed information on one or more services."""
    if pretty and template:
        raise CliError("--format is incompatible with human friendly format")
    with session.open_client() as client:
        if not pretty:
            session.inspect(refs, lambda ref: _as_json(client, ref), template)
            return
        found, problems = session.collect(refs, lambda ref: _as_text(client, ref))
    for lines in found:
        session.print_lines(lines)
    session.fail_if(problems)


@click.command("rm", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="SERVICE [SERVICE...]")
def rm(refs: tuple[str, ...]) -> None:
    """Remove one or more services."""
    from swarmd.rpc.v1 import control_pb2

    with session.open_client() as client:
        session.each(
            refs, lambda ref: client.control.RemoveService(control_pb2.RemoveServiceRequest(ref=ref))
        )


def find_service(client: Client, ref: str, prefix: str = "") -> control_pb2.ServiceView:
    """The service ``ref`` means; that there is none is said in the reading commands' own words."""
    from swarmd.rpc.v1 import control_pb2

    try:
        return client.control.GetService(control_pb2.GetServiceRequest(ref=ref)).service
    except DaemonError as error:
        if error.kind == "not_found":
            raise CliError(f"{prefix}no such service: {ref}") from None
        raise


def _as_json(client: Client, ref: str) -> Json:
    from swarmd.cli.rows_network import prefixes
    from swarmd.cli.views import service

    view = find_service(client, ref, "Error: ")
    return service(view, {one.id: prefixes(one) for one in of_service(client, view.service)})


def _as_text(client: Client, ref: str) -> list[str]:
    from swarmd.cli import pretty

    view = find_service(client, ref, "Error: ")
    names = {one.id: one.name for one in of_service(client, view.service)}
    return pretty.service(view, session.now(), names)


def _wanted(view: control_pb2.ServiceView, filters: dict[str, set[str]]) -> bool:
    service = view.service
    return (
        session.matches(filters, "id", service.id, prefix=True)
        and session.matches(filters, "name", service.spec.name, prefix=True)
        and session.matches(filters, "mode", service.spec.mode)
        and session.matches_labels(filters, "label", service.spec.labels.items())
    )
