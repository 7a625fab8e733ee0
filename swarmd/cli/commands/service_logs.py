"""``swarmctl service logs``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.grammar import Command, switch
from swarmd.cli.table import truncate_id
from swarmd.cli.units import parse_since, rfc3339

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2


class LogStyle(NamedTuple):
    """What stands before the text of a line."""

    raw: bool = False
    timestamps: bool = False
    details: bool = False
    truncate: bool = True
    task_ids: bool = True
    resolve: bool = True


@click.command("logs", cls=Command)
@switch("-f", "--follow", text="Follow log output")
@click.option("-n", "--tail", metavar="NUMBER|all", default="all", help="Lines of every task from the end")
@click.option("--since", default="", help="Since a timestamp or for a duration (e.g. 42m)")
@switch("-t", "--timestamps", text="Show timestamps")
@switch("--raw", text="Do not neatly format logs")
@switch("--details", text="Show which node, service and task a line is of")
@switch("--no-trunc", text="Do not truncate output")
@switch("--no-task-ids", text="Do not include task IDs in output")
@switch("--no-resolve", text="Do not map IDs to names in output")
@click.argument("ref", metavar="SERVICE|TASK")
def logs(
    follow: bool | None, tail: str, since: str, timestamps: bool | None, raw: bool | None,
    details: bool | None, no_trunc: bool | None, no_task_ids: bool | None, no_resolve: bool | None, ref: str,
) -> None:  # fmt: skip
    """Fetch the logs of a service or task."""
    from swarmd.rpc.v1 import control_pb2

    style = LogStyle(
        bool(raw), bool(timestamps), bool(details), not no_trunc, not no_task_ids, not no_resolve
    )
    try:
        start = parse_since(since, session.now()) if since else 0.0
    except ValueError as error:
        raise CliError(str(error)) from None
    request = control_pb2.LogsRequest(ref=ref, follow=bool(follow), tail=parse_tail(tail), since=start)
    with session.open_client() as client:
        try:
            width = 0
            for entry in client.control.Logs(request):
                width = max(width, len(entry.task_name))
                _print(entry, style, width)
        except DaemonError as error:
            if error.kind == "not_found":
                raise CliError(f"no such task or service: {ref}") from None
            raise


def log_prefix(entry: control_pb2.LogsResponse, style: LogStyle, width: int = 0) -> str:
    """``nginx1.1.tverkgx27jrq@n1    | ``: what stands before a line; names are padded to ``width``."""
    prefix = f"{rfc3339(entry.at)} " if style.timestamps else ""
    if not style.raw:
        name = entry.task_name.removesuffix(f".{entry.task_id}")
        if style.task_ids:
            name += f".{truncate_id(entry.task_id) if style.truncate else entry.task_id}"
        node = (entry.node_hostname if style.resolve else "") or entry.node_id
        prefix += f"{name}@{node}{' ' * (width - len(entry.task_name))}    | "
    if style.details:
        keys = {"node.id": entry.node_id, "task.id": entry.task_id}
        prefix += ",".join(f"com.docker.swarm.{key}={value}" for key, value in keys.items()) + " "
    return prefix


def _print(entry: control_pb2.LogsResponse, style: LogStyle, width: int) -> None:
    if entry.warning:
        sys.stdout.flush()
        session.warn(f"warning: incomplete log stream. {entry.warning}")
        return
    stream = sys.stderr if entry.stderr else sys.stdout
    text = entry.line if entry.line.endswith(b"\n") else entry.line + b"\n"
    stream.flush()
    stream.buffer.write(log_prefix(entry, style, width).encode() + text)
    stream.buffer.flush()


def parse_tail(text: str) -> int:
    """Lines from the end, -1 for all.  Raises click.UsageError."""
    if text == "all":
        return -1
    if not text.isdecimal():
        raise click.UsageError(f'invalid argument "{text}" for "-n, --tail" flag: write a number or all')
    return int(text)
