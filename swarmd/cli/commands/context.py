"""``swarmctl context``: names for daemons."""

from __future__ import annotations

import os

import click

from swarmd.cli import context as store
from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, switch


@click.group("context", cls=Group)
def group() -> None:
    """Manage contexts."""


group.aliases = {"list": "ls", "remove": "rm"}


@group.command("create", cls=Command)
@click.option("--host", metavar="unix:///PATH", default="", help="Socket of the daemon")
@click.option("--docker", metavar="host=unix:///PATH", default="", help="The same in docker's spelling")
@click.option("--description", default="", help="Description of the context")
@click.argument("name", metavar="CONTEXT")
def create(host: str, docker: str, description: str, name: str) -> None:
    """Create a context."""
    store.check_name(name)
    if any(known.name == name for known in store.list_contexts()):
        raise CliError(f'context "{name}" already exists')
    address = host or docker.removeprefix("host=")
    if not address:
        raise CliError("the daemon's socket is required: give --host unix:///path")
    store.save_context(name, address, description)
    click.echo(name)
    session.warn(f'Successfully created context "{name}"')


@group.command("ls", cls=Command)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-q", "--quiet", text="Only show context names")
def ls(template: str | None, quiet: bool | None) -> None:
    """List contexts."""
    from swarmd.cli.listing import Layout

    form = Layout(
        ("Marked", "Description", "Endpoint", "Error"),
        {
            "Marked": "NAME",
            "Name": "NAME",
            "Current": "",
            "Description": "DESCRIPTION",
            "Endpoint": "ENDPOINT",
            "Error": "ERROR",
        },
        identity="Name",
    )
    now_used = _current()
    rows = [
        {
            "Marked": f"{it.name} *" if it.name == now_used else it.name,
            "Name": it.name,
            "Current": "true" if it.name == now_used else "",
            "Description": it.description,
            "Endpoint": it.host,
            "Error": "",
        }
        for it in store.list_contexts()
    ]
    session.print_listing(form, rows, template, quiet)


@group.command("use", cls=Command)
@click.argument("name", metavar="CONTEXT")
def use(name: str) -> None:
    """Set the current context."""
    store.use_context(name)
    click.echo(name)
    session.warn(f'Current context is now "{name}"')
    if name != store.DEFAULT and os.environ.get("SWARMCTL_HOST"):
        session.warn("Warning: SWARMCTL_HOST environment variable overrides the active context.")


@group.command("show", cls=Command)
def show() -> None:
    """Print the name of the current context."""
    click.echo(_current())


@group.command("rm", cls=Command)
@switch("-f", "--force", text="Remove the context even if it is in use")
@click.argument("names", nargs=-1, required=True, metavar="CONTEXT [CONTEXT...]")
def rm(force: bool | None, names: tuple[str, ...]) -> None:
    """Remove one or more contexts."""

    def one(name: str) -> None:
        if name == store.DEFAULT:
            raise CliError('context "default" cannot be removed')
        if name == store.current_context() and not force:
            raise CliError(f'context "{name}" is in use, set -f flag to force remove')
        store.remove_context(name)

    session.each(names, one)


@group.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@click.argument("names", nargs=-1, metavar="[CONTEXT...]")
def inspect(template: str | None, names: tuple[str, ...]) -> None:
    """Display detailed information on one or more contexts."""

    def view(name: str) -> dict[str, object]:
        it = store.get_context(name)
        return {
            "Name": it.name,
            "Metadata": {"Description": it.description} if it.description else {},
            "Endpoints": {"swarmd": {"Host": it.host}},
            "Storage": {"MetadataPath": store.storage_path(name)},
        }

    session.inspect(names or (_current(),), view, template)


def _current() -> str:
    root = click.get_current_context().find_root().params
    return store.resolve_name(root.get("context"), root.get("host"), os.environ)
