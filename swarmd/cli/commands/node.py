"""``swarmctl node``: ls, inspect, ps, update, promote, demote, rm.  ``self`` is the node that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, switch

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import control_pb2

_FILTERS = ("id", "label", "node.label", "name", "role")


@click.group("node", cls=Group, lazy={"ps": "swarmd.cli.commands.task_list:node_ps"})
def group() -> None:
    """Manage swarm nodes."""


group.aliases = {"list": "ls", "remove": "rm"}


@group.command("ls", cls=Command)
@click.option("-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only nodes like that")
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-q", "--quiet", text="Only display IDs")
def ls(filters: tuple[str, ...], template: str | None, quiet: bool | None) -> None:
    """List nodes in the swarm."""
    from swarmd.cli.rows import NODES, node_rows
    from swarmd.rpc.v1 import control_pb2, node_pb2

    wanted = session.parse_filters(filters, _FILTERS)
    with session.open_client() as client:
        answer = client.control.ListNodes(control_pb2.ListNodesRequest())
        me = client.node.Info(node_pb2.InfoRequest()).node_id
    rows = node_rows([view for view in answer.nodes if _wanted(view, wanted)], me)
    session.print_listing(NODES, rows, template, quiet)
    session.warn_all(answer.warnings)


@group.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@switch("--pretty", text="Print in a form for people")
@click.argument("refs", nargs=-1, required=True, metavar="self|NODE [NODE...]")
def inspect(template: str | None, pretty: bool | None, refs: tuple[str, ...]) -> None:
    """Display detailed information on one or more nodes."""
    from swarmd.cli import pretty as pretty_text
    from swarmd.cli.views_node import node

    if pretty and template:
        raise CliError("--format is incompatible with human friendly format")
    with session.open_client() as client:
        if not pretty:
            session.inspect(refs, lambda ref: node(get(client, ref)), template)
            return
        found, problems = session.collect(refs, lambda ref: get(client, ref))
    session.print_lines("\n\n".join("\n".join(pretty_text.node(view)) for view in found).splitlines())
    session.fail_if(problems)


@group.command("update", cls=Command)
@click.option("--availability", metavar="active|pause|drain", help="Availability of the node")
@click.option("--role", metavar="worker|manager", help="Role of the node")
@click.option("--label-add", metavar="KEY=VALUE", multiple=True, help="Add or change a label")
@click.option("--label-rm", metavar="KEY", multiple=True, help="Remove a label")
@click.argument("ref", metavar="NODE")
def update(
    availability: str | None,
    role: str | None,
    label_add: tuple[str, ...],
    label_rm: tuple[str, ...],
    ref: str,
) -> None:
    """Update a node."""
    from swarmd.cli.spec_text import parse_labels
    from swarmd.rpc.v1 import control_pb2

    try:
        labels = parse_labels(label_add)
    except ValueError as error:
        raise CliError(str(error)) from None
    with session.open_client() as client:
        answer = client.control.UpdateNode(
            control_pb2.UpdateNodeRequest(
                ref=resolve(client, ref),
                availability=availability,
                role=role,
                label_add=labels,
                label_rm=label_rm,
            )
        )
    click.echo(ref)
    session.warn_all(answer.warnings)


@group.command("promote", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="NODE [NODE...]")
def promote(refs: tuple[str, ...]) -> None:
    """Promote one or more nodes to manager in the swarm."""
    _change_role(refs, "manager", "Node {} promoted to a manager in the swarm.")


@group.command("demote", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="NODE [NODE...]")
def demote(refs: tuple[str, ...]) -> None:
    """Demote one or more nodes from manager in the swarm."""
    _change_role(refs, "worker", "Manager {} demoted in the swarm.")


@group.command("rm", cls=Command)
@switch("-f", "--force", text="Remove a node even though it is not down")
@click.argument("refs", nargs=-1, required=True, metavar="NODE [NODE...]")
def rm(force: bool | None, refs: tuple[str, ...]) -> None:
    """Remove one or more nodes from the swarm."""
    from swarmd.rpc.v1 import control_pb2

    with session.open_client() as client:
        session.each(
            refs,
            lambda ref: client.control.RemoveNode(
                control_pb2.RemoveNodeRequest(ref=resolve(client, ref), force=bool(force))
            ),
        )


def resolve(client: Client, ref: str) -> str:
    """``ref``, or the answering node's id for ``self``.  Raises CliError when it is in no swarm."""
    if ref != "self":
        return ref
    from swarmd.rpc.v1 import control_pb2, node_pb2

    node_id = client.node.Info(node_pb2.InfoRequest()).node_id
    if not node_id:
        # any manager call makes the daemon say, in its own words, why it cannot answer
        client.control.ListNodes(control_pb2.ListNodesRequest())
        raise CliError("this node has no id yet: it is not part of a swarm")
    return node_id


def get(client: Client, ref: str) -> control_pb2.NodeView:
    """The node ``ref`` means."""
    from swarmd.rpc.v1 import control_pb2

    return client.control.GetNode(control_pb2.GetNodeRequest(ref=resolve(client, ref))).node


def _change_role(refs: tuple[str, ...], role: str, done: str) -> None:
    from swarmd.rpc.v1 import control_pb2

    warnings: Sequence[str] = ()
    try:
        with session.open_client() as client:
            for ref in refs:
                request = control_pb2.UpdateNodeRequest(ref=resolve(client, ref), role=role)
                answer = client.control.UpdateNode(request)
                click.echo(done.format(ref) if answer.changed else f"Node {answer.id} is already a {role}.")
                warnings = answer.warnings if answer.changed else warnings
    finally:
        # Those of the numbers in between are of no interest.
        session.warn_all(warnings)


def _wanted(view: control_pb2.NodeView, filters: dict[str, set[str]]) -> bool:
    node = view.node
    return (
        session.matches(filters, "id", node.id, prefix=True)
        and session.matches(filters, "name", node.description.hostname, prefix=True)
        and session.matches(filters, "role", node.role or node.spec.role)
        and session.matches_labels(filters, "label", node.description.labels.items())
        and session.matches_labels(filters, "node.label", node.spec.labels.items())
    )
