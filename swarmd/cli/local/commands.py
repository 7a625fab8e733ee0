"""``swarmctl local``: a swarm on this machine, one command away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from swarmd.cli.local.cluster import LocalClusters

_name = click.option("--name", default="local", show_default=True, metavar="NAME", help="Name of the cluster")
_node = click.argument("node", metavar="NODE")


def _clusters() -> LocalClusters:
    from swarmd.cli.local.cluster import LocalClusters
    from swarmd.cli.local.state import Root
    from swarmd.cli.local.swarm import PORTS, Ports

    ports: Ports = click.get_current_context().meta[PORTS]()
    return LocalClusters(Root(), ports, say=click.echo)


@click.group("local")
def group() -> None:
    """Manage swarms on this machine

    Each node has a network, host name, processes, cgroups and disk directory of its own and runs a real
    daemon. Needs root.
    """


@group.command("up")
@_name
@click.option("--nodes", default=3, show_default=True, metavar="N", help="Number of nodes")
@click.option("--managers", default=1, show_default=True, metavar="N", help="How many of them are managers")
def up_command(name: str, nodes: int, managers: int) -> None:
    """Start a swarm on this machine"""
    from swarmd.cli.local.core.status import next_steps, node_table

    clusters = _clusters()
    cluster = clusters.up(name, nodes=nodes, managers=managers)
    click.echo(node_table(cluster, clusters.states(cluster)))
    click.echo()
    click.echo(next_steps(cluster))


@group.command("ls")
@click.option("--name", default="", metavar="NAME", help="Show only this cluster")
def ls_command(name: str) -> None:
    """List the swarms on this machine and their nodes"""
    from swarmd.cli.local.core.status import cluster_table, node_table

    clusters = _clusters()
    found = [c for c in clusters.clusters() if name in ("", c.name)]
    states = {c.name: clusters.states(c) for c in found}
    click.echo(cluster_table((c, states[c.name]) for c in found))
    for cluster in found:
        click.echo()
        if len(found) > 1:
            click.echo(f"{cluster.name}:")
        click.echo(node_table(cluster, states[cluster.name]))


@group.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_name
@_node
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARG...]")
def exec_command(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run a command in a node"""
    words = command[1:] if command[0] == "--" else command
    argv = _clusters().enter(name, node, words)
    os.execvp(argv[0], argv)


@group.command("stop")
@_name
@_node
def stop_command(name: str, node: str) -> None:
    """Shut a node down in order"""
    _clusters().stop(name, node)
    click.echo(node)


@group.command("start")
@_name
@_node
def start_command(name: str, node: str) -> None:
    """Start a node that was stopped or killed"""
    _clusters().start(name, node)
    click.echo(node)


@group.command("kill")
@_name
@_node
def kill_command(name: str, node: str) -> None:
    """Cut a node's power"""
    _clusters().kill(name, node)
    click.echo(node)


@group.command("pause")
@_name
@_node
def pause_command(name: str, node: str) -> None:
    """Freeze all processes of a node"""
    _clusters().pause(name, node)
    click.echo(node)


@group.command("unpause")
@_name
@_node
def unpause_command(name: str, node: str) -> None:
    """Let a paused node go on"""
    _clusters().unpause(name, node)
    click.echo(node)


@group.command("cut")
@_name
@_node
def cut_command(name: str, node: str) -> None:
    """Cut a node's network cable"""
    _clusters().cut(name, node)
    click.echo(node)


@group.command("heal")
@_name
@_node
def heal_command(name: str, node: str) -> None:
    """Mend a node's network cable"""
    _clusters().heal(name, node)
    click.echo(node)


@group.command("down")
@_name
def down_command(name: str) -> None:
    """Remove a swarm from this machine, with everything in it"""
    _clusters().down(name)
    click.echo(name)
