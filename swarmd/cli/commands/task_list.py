"""``swarmctl service ps`` and ``swarmctl node ps``: tasks with their history."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.commands.node import get as get_node
from swarmd.cli.commands.service_read import find_service
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, F, switch
from swarmd.cli.states import task_state

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import control_pb2

_FILTERS = ("desired-state", "id", "name", "node")


def _task_options(command: F) -> F:
    decorate: list[Callable[[F], F]] = [
        switch("-q", "--quiet", text="Only display task IDs"),
        switch("--no-trunc", text="Do not truncate output"),
        switch("--no-resolve", text="Do not map IDs to names"),
        click.option("--format", "template", help="table, json, or a Go template"),
        click.option("-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only such tasks"),
    ]
    for decorator in decorate:
        command = decorator(command)
    return command


@click.command("ps", cls=Command)
@_task_options
@click.argument("refs", nargs=-1, required=True, metavar="SERVICE [SERVICE...]")
def service_ps(
    filters: tuple[str, ...], template: str | None, no_resolve: bool | None, no_trunc: bool | None,
    quiet: bool | None, refs: tuple[str, ...],
) -> None:  # fmt: skip
    """List the tasks of one or more services."""
    from swarmd.rpc.v1 import control_pb2

    def tasks_of(client: Client, ref: str) -> list[control_pb2.TaskView]:
        service_id = find_service(client, ref).service.id
        return list(client.control.ListTasks(control_pb2.ListTasksRequest(service_id=service_id)).tasks)

    _print_tasks(refs, tasks_of, filters, template, not no_resolve, not no_trunc, quiet)


@click.command("ps", cls=Command)
@_task_options
@click.argument("refs", nargs=-1, metavar="[NODE...]")
def node_ps(
    filters: tuple[str, ...], template: str | None, no_resolve: bool | None, no_trunc: bool | None,
    quiet: bool | None, refs: tuple[str, ...],
) -> None:  # fmt: skip
    """List tasks running on one or more nodes, defaults to current node."""
    from swarmd.rpc.v1 import control_pb2

    def tasks_on(client: Client, ref: str) -> list[control_pb2.TaskView]:
        node_id = get_node(client, ref).node.id
        return list(client.control.ListTasks(control_pb2.ListTasksRequest(node_id=node_id)).tasks)

    _print_tasks(refs or ("self",), tasks_on, filters, template, not no_resolve, not no_trunc, quiet)


def _print_tasks(
    refs: tuple[str, ...],
    tasks_of: Callable[[Client, str], list[control_pb2.TaskView]],
    filters: tuple[str, ...],
    template: str | None,
    resolve: bool,
    truncate: bool,
    quiet: bool | None,
) -> None:
    from swarmd.cli.rows import TASKS, task_rows

    wanted = session.parse_filters(filters, _FILTERS)
    with session.open_client() as client:
        found, problems = session.collect(refs, lambda ref: tasks_of(client, ref))
        if "node" in wanted:
            wanted["node"] = {get_node(client, ref).node.id for ref in wanted["node"]}
    views = [view for views in found for view in views if _wanted(view, wanted)]
    rows = task_rows(views, session.now(), truncate=truncate, resolve=resolve)
    if found:
        session.print_listing(TASKS, rows, template, quiet)
    session.fail_if(problems)


def _wanted(view: control_pb2.TaskView, filters: dict[str, set[str]]) -> bool:
    from swarmd.cli.rows import task_name

    unknown = filters.get("desired-state", set()) - {"running", "shutdown", "accepted", "ready"}
    if unknown:
        raise CliError(f"invalid filter 'desired-state={unknown.pop()}': write running, shutdown or ready")
    task = view.task
    return (
        session.matches(filters, "id", task.id, prefix=True)
        and session.matches(filters, "name", task_name(view), prefix=True)
        and session.matches(filters, "node", task.node_id)
        and session.matches(filters, "desired-state", task_state(task.desired_state))
    )
