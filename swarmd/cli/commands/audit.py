"""``swarmctl swarm audit``: the audit log of one node."""

from __future__ import annotations

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, switch
from swarmd.cli.units import parse_since


@click.command("audit", cls=Command)
@switch("-f", "--follow", text="Show new lines as they are written")
@click.option("-n", "--tail", metavar="NUMBER|all", default="all", help="Lines from the end (default all)")
@click.option("--since", default="", help="Since a timestamp or for a duration (e.g. 42m)")
def audit(follow: bool | None, tail: str, since: str) -> None:
    """Show the audit log of this node: one JSON line for each privileged call it carried out or refused."""
    from swarmd.rpc.v1 import node_pb2

    if tail != "all" and not tail.isdigit():
        raise CliError(f'"{tail}" is no number of lines: write --tail 20 or --tail all')
    try:
        start = parse_since(since, session.now()) if since else 0.0
    except ValueError as error:
        raise CliError(str(error)) from None
    request = node_pb2.ReadAuditRequest(
        tail=-1 if tail == "all" else int(tail), follow=bool(follow), since=start
    )
    with session.open_client() as client:
        for entry in client.node.ReadAudit(request):
            click.echo(entry.line.decode(errors="replace"))
