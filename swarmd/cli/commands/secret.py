"""``swarmctl secret``: create, ls, inspect, rm."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, switch

_FILTERS = ("id", "label", "name")
_LARGEST = 500 * 1024


@click.group("secret", cls=Group)
def group() -> None:
    """Manage secrets: what nobody but who needs it may see."""


group.aliases = {"list": "ls", "remove": "rm"}


@group.command("create", cls=Command)
@click.option("-l", "--label", "labels", metavar="list", multiple=True, help="Secret labels")
@click.argument("name", metavar="SECRET")
@click.argument("path", required=False, default="", metavar="[file|-]")
def create(labels: tuple[str, ...], name: str, path: str) -> None:
    """Create a secret from a file or STDIN as content."""
    from swarmd.cli.spec_text import parse_labels
    from swarmd.rpc.v1 import secrets_pb2

    try:
        found = parse_labels(labels)
    except ValueError as error:
        raise CliError(str(error)) from None
    request = secrets_pb2.CreateSecretRequest(name=name, labels=found, data=_content(path or "-"))
    with session.open_client() as client:
        click.echo(client.secrets.CreateSecret(request).id)


@group.command("ls", cls=Command)
@click.option("-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only such secrets")
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-q", "--quiet", text="Only display IDs")
def ls(filters: tuple[str, ...], template: str | None, quiet: bool | None) -> None:
    """List secrets."""
    from swarmd.cli.rows_secret import SECRETS, secret_rows
    from swarmd.rpc.v1 import secrets_pb2

    wanted = session.parse_filters(filters, _FILTERS)
    with session.open_client() as client:
        secrets = client.secrets.ListSecrets(secrets_pb2.ListSecretsRequest()).secrets
    found = [
        it
        for it in secrets
        if session.matches(wanted, "id", it.id, prefix=True)
        and session.matches(wanted, "name", it.name, prefix=True)
        and session.matches_labels(wanted, "label", it.labels.items())
    ]
    session.print_listing(SECRETS, secret_rows(found, session.now()), template, quiet)


@group.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@click.argument("refs", nargs=-1, required=True, metavar="SECRET [SECRET...]")
def inspect(template: str | None, refs: tuple[str, ...]) -> None:
    """Display detailed information on one or more secrets, but never what is in them."""
    from swarmd.cli.rows_secret import secret
    from swarmd.rpc.v1 import secrets_pb2

    with session.open_client() as client:
        session.inspect(
            refs,
            lambda ref: secret(client.secrets.GetSecret(secrets_pb2.GetSecretRequest(ref=ref)).secret),
            template,
        )


@group.command("rm", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="SECRET [SECRET...]")
def rm(refs: tuple[str, ...]) -> None:
    """Remove one or more secrets that no service uses."""
    from swarmd.rpc.v1 import secrets_pb2

    with session.open_client() as client:
        session.each(refs, lambda ref: client.secrets.RemoveSecret(secrets_pb2.RemoveSecretRequest(ref=ref)))


def _content(path: str) -> bytes:
    """At most one byte more than is allowed: the refusal is the manager's."""
    if path == "-":
        return sys.stdin.buffer.read(_LARGEST + 1)
    try:
        with Path(path).open("rb") as file:
            return file.read(_LARGEST + 1)
    except OSError as error:
        raise CliError(f"error reading content from {path}: {error.strerror}") from error
