"""``swarmctl swarm unlock`` and ``unlock-key``: the key that a locked manager waits for.

The key is never an argument: those are seen by everybody on the machine.
"""

from __future__ import annotations

import sys

import click

from swarmd.cli.commands.swarm import unlock_text
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, switch
from swarmd.cli.session import open_client

_NOT_LOCKED = "Error: swarm is not locked"
_NO_SWARM = "Error: This node is not part of a swarm"


@click.command("unlock", cls=Command)
def unlock() -> None:
    """Unlock the swarm on this manager.

    The key is asked for on a terminal, and read from standard input otherwise.
    """
    from swarmd.rpc.v1 import node_pb2

    with open_client() as client:
        state = client.node.Info(node_pb2.InfoRequest()).swarm_state
        if state == "inactive":
            raise CliError(_NO_SWARM)
        if state not in ("locked", "pending"):
            raise CliError(_NOT_LOCKED)
        client.node.UnlockSwarm(node_pb2.UnlockSwarmRequest(unlock_key=_read_key()))


@click.command("unlock-key", cls=Command)
@switch("--rotate", text="Make a new key; managers that are down need the old one still")
@switch("-q", "--quiet", text="Only show the key")
def unlock_key(rotate: bool | None, quiet: bool | None) -> None:
    """Manage the unlock key."""
    from swarmd.rpc.v1 import control_pb2

    with open_client() as client:
        if rotate:
            key = client.control.RotateUnlockKey(control_pb2.RotateUnlockKeyRequest()).unlock_key
        else:
            key = client.control.GetUnlockKey(control_pb2.GetUnlockKeyRequest()).unlock_key
    if not key:
        raise CliError("no unlock key is set")
    if quiet:
        click.echo(key)
        return
    if rotate:
        click.echo("Successfully rotated manager unlock key.\n")
    click.echo(unlock_text(key))


def _read_key() -> str:
    if sys.stdin.isatty():
        answer: str = click.prompt("Please enter unlock key", hide_input=True, err=True)
        return answer.strip()
    return sys.stdin.readline().strip()
