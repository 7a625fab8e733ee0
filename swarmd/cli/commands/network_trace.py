"""``swarmctl network trace``: where a packet of a task would go, and why."""

from __future__ import annotations

import click

from swarmd.cli import session
from swarmd.cli.errors import FAILED
from swarmd.cli.grammar import Command, switch


@click.command("trace", cls=Command)
@switch("--json", text="The steps, for programs")
@click.argument("source", metavar="SRC-TASK")
@click.argument("destination", metavar="DST")
def trace(json: bool | None, source: str, destination: str) -> int:
    """Say where a packet would go that a task sends, and why.

    DST is a service, alias or other name, a task, an address, NAME:PORT, or a published port (8080, 53/udp).
    Nothing is sent.  Exit code 1: the packet is refused.
    """
    from swarmd.cli.rows_doctor import trace_json, trace_lines
    from swarmd.kit.go_values import go_json
    from swarmd.rpc.v1 import netdiag_pb2

    request = netdiag_pb2.TracePacketRequest(source=source, destination=destination)
    with session.open_client() as client:
        answer = client.doctor.TracePacket(request)
    if json:
        click.echo(go_json(trace_json(answer), indent=2))
    else:
        session.print_lines(trace_lines(answer))
    return FAILED if answer.verdict == "refused" else 0
