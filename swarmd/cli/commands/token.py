"""``swarmctl swarm token``: create, ls, inspect, rm."""

from __future__ import annotations

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, Parsed, switch
from swarmd.cli.spec_text import parse_count, parse_labels
from swarmd.cli.units import parse_duration

_FILTERS = ("id", "label", "role", "state")


@click.group("token", cls=Group)
def group() -> None:
    """Manage join tokens that expire, or are for a number of nodes."""


group.aliases = {"list": "ls", "remove": "rm"}


@group.command("create", cls=Command)
@click.option(
    "--role", metavar="worker|manager", default="worker", help="What joins with it (default worker)"
)
@click.option(
    "-l", "--label", "labels", metavar="KEY=VALUE", multiple=True, help="A label for the nodes that join"
)
@click.option("--expires", type=Parsed("duration", parse_duration), help="How long it is valid (24h)")
@click.option("--uses", type=Parsed("int", parse_count), help="How many nodes may join with it")
@click.option("--availability", metavar="active|pause|drain", default="", help="Availability of these nodes")
@click.option("--description", default="", help="A word about what it is for")
@switch("-q", "--quiet", text="Only show the token")
def create(
    role: str, labels: tuple[str, ...], expires: float | None, uses: int | None, availability: str,
    description: str, quiet: bool | None,
) -> None:  # fmt: skip
    """Create a join token; it is shown this once."""
    from swarmd.cli.commands.swarm import join_address, join_text
    from swarmd.rpc.v1 import control_pb2

    if expires == 0 or uses == 0:
        raise CliError(
            "a token that is never valid is of no use: leave --expires and --uses out for no limit"
        )
    try:
        parsed = parse_labels(labels)
    except ValueError as error:
        raise CliError(str(error)) from None
    request = control_pb2.CreateTokenRequest(
        role=role, labels=parsed, availability=availability, description=description,
        lifetime=expires or 0.0, max_uses=uses or 0,
    )  # fmt: skip
    with session.open_client() as client:
        answer = client.control.CreateToken(request)
        if quiet:
            click.echo(answer.token)
            return
        address = join_address(client)
    click.echo(
        f"Created join token {answer.view.id}. It is not shown again.\n\n"
        f"{join_text(role, answer.token, address)}"
    )


@group.command("ls", cls=Command)
@click.option("-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only tokens like that")
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-q", "--quiet", text="Only display IDs")
def ls(filters: tuple[str, ...], template: str | None, quiet: bool | None) -> None:
    """List the join tokens that were created; `join-token` shows the two standing ones."""
    from swarmd.cli.rows_token import TOKENS, token_rows
    from swarmd.rpc.v1 import control_pb2

    wanted = session.parse_filters(filters, _FILTERS)
    with session.open_client() as client:
        views = client.control.ListTokens(control_pb2.ListTokensRequest()).tokens
    found = [
        view
        for view in views
        if session.matches(wanted, "id", view.id, prefix=True)
        and session.matches(wanted, "role", view.role)
        and session.matches(wanted, "state", view.state)
        and session.matches_labels(wanted, "label", view.labels.items())
    ]
    session.print_listing(TOKENS, token_rows(found, session.now()), template, quiet)


@group.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@click.argument("refs", nargs=-1, required=True, metavar="TOKEN [TOKEN...]")
def inspect(template: str | None, refs: tuple[str, ...]) -> None:
    """Display detailed information on one or more join tokens, without their secrets."""
    from swarmd.cli.rows_token import token
    from swarmd.rpc.v1 import control_pb2

    with session.open_client() as client:
        session.inspect(
            refs,
            lambda ref: token(client.control.GetToken(control_pb2.GetTokenRequest(ref=ref)).token),
            template,
        )


@group.command("rm", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="TOKEN [TOKEN...]")
def rm(refs: tuple[str, ...]) -> None:
    """Remove one or more join tokens; nodes that joined with them stay."""
    from swarmd.rpc.v1 import control_pb2

    with session.open_client() as client:
        session.each(refs, lambda ref: client.control.RemoveToken(control_pb2.RemoveTokenRequest(ref=ref)))
