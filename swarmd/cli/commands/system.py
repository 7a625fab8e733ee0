"""``swarmctl`` info, version and completion."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError, DaemonError, Unreachable
from swarmd.cli.grammar import Command
from swarmd.kit.go_values import go_json
from swarmd.kit.template import TemplateError, render

if TYPE_CHECKING:
    from swarmd.cli.views_container import Json
    from swarmd.rpc.v1 import node_pb2

_SHELLS = ("bash", "zsh", "fish")
_NOT_NOW = 1.5
"""Seconds: a manager that has not heard of the leader for so long has lost it."""


@click.command("info", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
def info(template: str | None) -> None:
    """Display what the daemon is and its part in the swarm."""
    from swarmd.cli.views_node import info as view
    from swarmd.rpc.v1 import node_pb2

    with session.open_client() as client:
        answer = client.node.Info(node_pb2.InfoRequest())
    if template:
        click.echo(_filled(template, view(answer)))
        return
    session.print_lines(info_lines(answer))
    session.warn_all(answer.warnings)


@click.command("version", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
def version(template: str | None) -> None:
    """Show the versions of the client and the daemon."""
    from swarmd import __version__
    from swarmd.rpc.v1 import node_pb2

    client_part = {
        "Version": __version__,
        "PythonVersion": platform.python_version(),
        "Os": platform.system().lower(),
        "Arch": platform.machine(),
        "Context": _context_name(),
    }
    problem = ""
    server: Json | None = None
    try:
        with session.open_client() as client:
            server = {"Version": client.node.Info(node_pb2.InfoRequest()).version}
    except (Unreachable, DaemonError) as error:
        problem = str(error)
    if template:
        click.echo(_filled(template, {"Client": client_part, "Server": server}))
    else:
        session.print_lines(version_lines(client_part, server))
    session.fail_if([problem] if problem else [])


@click.command("completion", cls=Command)
@click.argument("shell", metavar="(bash|zsh|fish)")
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell) if shell in _SHELLS else None
    if found is None:
        raise click.UsageError(f"unknown shell {shell}: write {', '.join(_SHELLS)}")
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "swarmctl", "_SWARMCTL_COMPLETE").source())


def info_lines(answer: node_pb2.InfoResponse) -> list[str]:
    """What ``info`` prints; lines about the swarm only for its members."""
    lines = [
        "Server:",
        f" Name: {answer.hostname}",
        f" Server Version: {answer.version}",
        f" Containers Running: {answer.running_containers}",
        f" Images: {answer.images}",
        f" Swarm: {answer.swarm_state}",
    ]
    if answer.node_id:
        lines.append(f"  NodeID: {answer.node_id}")
    lines += [f"  Error: {answer.error}"] if answer.error else []
    if answer.swarm_state in ("inactive", "locked"):
        return lines
    lines.append(f"  Is Manager: {str(answer.is_manager).lower()}")
    if answer.is_manager:
        lines += [f"  Is Leader: {str(answer.is_leader).lower()}", f"  ClusterID: {answer.cluster_id}"]
    lines += _group_lines(answer.group) if answer.HasField("group") else []
    lines += [f"  Node Address: {answer.node_address}", "  Manager Addresses:"]
    status = {manager.address: f" ({manager.status})" for manager in answer.group.managers}
    known = dict.fromkeys([*status, *answer.managers])  # a node just promoted remembers fewer than the group
    return [*lines, *(f"   {address}{status.get(address, '')}" for address in known)]


def _group_lines(group: node_pb2.ManagerGroup) -> list[str]:
    age = f", as {group.age:.1f} s ago" if group.age >= _NOT_NOW else ""
    return [
        f"  Managers: {len(group.managers)} (can lose {group.can_lose})",
        f"  Raft: epoch {group.epoch}, term {group.term}, {group.applied} changes applied{age}",
    ]


def version_lines(client: Json, server: Json | None) -> list[str]:
    """What ``version`` prints; nothing of the server when it cannot be reached."""
    lines = [
        "Client:",
        f" Version:           {client['Version']}",
        f" Python version:    {client['PythonVersion']}",
        f" OS/Arch:           {client['Os']}/{client['Arch']}",
        f" Context:           {client['Context']}",
    ]
    return [*lines, "", "Server:", f" Version:           {server['Version']}"] if server else lines


def _context_name() -> str:
    import os

    from swarmd.cli.context import resolve_name

    root = click.get_current_context().find_root().params
    return resolve_name(root.get("context"), root.get("host"), os.environ)


def _filled(template: str, data: Json) -> str:
    try:
        return go_json(data) if template == "json" else render(template, data)
    except TemplateError as error:
        raise CliError(str(error)) from None
