"""``swarmctl network doctor``: what is wrong with the network, and what to do about it."""

from __future__ import annotations

import click

from swarmd.cli import session
from swarmd.cli.errors import FAILED
from swarmd.cli.grammar import Command, switch


@click.command("doctor", cls=Command)
@switch("--json", text="Everything that was found out, for programs")
@click.argument("network", required=False, default="", metavar="[NETWORK]")
def doctor(json: bool | None, network: str) -> int:
    """Have every node look at its network and try its ways to the others.

    Exit code 1: something is wrong.
    """
    from swarmd.cli.rows_doctor import as_json, is_well, lines
    from swarmd.kit.go_values import go_json
    from swarmd.rpc.v1 import netdiag_pb2

    with session.open_client() as client:
        answer = client.doctor.ExamineNetwork(netdiag_pb2.ExamineNetworkRequest(network=network))
    if json:
        click.echo(go_json(as_json(answer), indent=2))
    else:
        session.print_lines(lines(answer))
    return 0 if is_well(answer) else FAILED
