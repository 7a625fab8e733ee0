"""``swarmctl stats``: what containers use, of this node or anywhere, once or again and again."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from swarmd.cli import session, terminal
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.grammar import Command, switch
from swarmd.cli.listing import Layout, Row
from swarmd.cli.table import truncate_id
from swarmd.cli.units import format_binary, format_decimal

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import containers_pb2 as pb

_CLEAR = "\033[2J\033[H"
_RUNNING = 512
USAGE = Layout(
    ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
    {
        "ID": "CONTAINER ID",
        "Container": "CONTAINER",
        "Name": "NAME",
        "CPUPerc": "CPU %",
        "MemUsage": "MEM USAGE / LIMIT",
        "MemPerc": "MEM %",
        "NetIO": "NET I/O",
        "BlockIO": "BLOCK I/O",
        "PIDs": "PIDS",
    },
)


@click.command("stats", cls=Command)
@switch("--no-stream", text="Show them once and end")
@switch("--no-trunc", text="Do not truncate output")
@click.option("--format", "template", help="table, json, or a Go template")
@click.argument("refs", nargs=-1, metavar="[TASK|CONTAINER|SERVICE...]")
def stats(no_stream: bool | None, no_trunc: bool | None, template: str | None, refs: tuple[str, ...]) -> None:
    """Show what containers use; without names, all that run on this node."""
    with session.open_client() as client:
        wanted = [one for ref in refs for one in _expanded(client, ref)]
        repeat = not no_stream
        for usages in _together(client, wanted, repeat=repeat):
            rows = usage_rows(usages, truncate=not no_trunc)
            if repeat and terminal.is_terminal(sys.stdout):
                click.echo(_CLEAR, nl=False)
            session.print_listing(USAGE, rows, template, quiet=False)
            sys.stdout.flush()


def usage_rows(usages: Iterable[pb.ContainerUsage], *, truncate: bool) -> list[Row]:
    """Docker's cells; ``--`` where nothing can be told."""
    return [_row(usage, truncate) for usage in usages]


def _row(usage: pb.ContainerUsage, truncate: bool) -> Row:
    identity = truncate_id(usage.id) if truncate else usage.id
    name = usage.name
    if truncate and name.endswith(f".{usage.id}"):
        name = f"{name.removesuffix(usage.id)}{identity}"
    row = dict.fromkeys(USAGE.headers, "--") | {"ID": identity, "Container": identity, "Name": name}
    if usage.problem:
        return row
    share = usage.memory / usage.memory_limit * 100 if usage.memory_limit else 0.0
    return row | {
        "CPUPerc": f"{usage.cpu_percent:.2f}%",
        "MemUsage": f"{format_binary(usage.memory)} / {format_binary(usage.memory_limit)}",
        "MemPerc": f"{share:.2f}%",
        "NetIO": f"{format_decimal(usage.received_bytes)} / {format_decimal(usage.sent_bytes)}",
        "BlockIO": f"{format_decimal(usage.read_bytes)} / {format_decimal(usage.written_bytes)}",
        "PIDs": str(usage.pids),
    }


def _expanded(client: Client, ref: str) -> list[str]:
    """A service stands for its running tasks."""
    from swarmd.rpc.v1 import containers_pb2, control_pb2

    try:
        return [client.containers.GetContainer(containers_pb2.ContainerRequest(ref=ref)).container.id]
    except DaemonError as error:
        if error.kind != "refused":
            raise
        views = client.control.ListTasks(control_pb2.ListTasksRequest(service_id=ref)).tasks
        running = [view.task.id for view in views if view.task.status.state == _RUNNING]
        if not running:
            raise
        return running


def _together(client: Client, refs: list[str], *, repeat: bool) -> Iterator[list[pb.ContainerUsage]]:
    """Every container's newest numbers, each time the first of them tells new ones."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    if not refs:
        for answer in client.containers.Stats(pb.StatsRequest(stream=repeat)):
            yield list(answer.containers)
        return
    told: queue.Queue[tuple[str, pb.ContainerUsage | CliError | None]] = queue.Queue()

    def read(ref: str) -> None:
        try:
            for answer in client.containers.Stats(pb.StatsRequest(refs=[ref], stream=repeat)):
                for usage in answer.containers:
                    told.put((ref, usage))
        except CliError as error:
            told.put((ref, error))
        told.put((ref, None))

    for ref in refs:
        threading.Thread(target=read, args=(ref,), daemon=True).start()
    yield from _rounds(refs, told, repeat=repeat)


def _rounds(
    refs: list[str], told: queue.Queue[tuple[str, pb.ContainerUsage | CliError | None]], *, repeat: bool
) -> Iterator[list[pb.ContainerUsage]]:
    newest: dict[str, pb.ContainerUsage] = {}
    waiting, problems = set(refs), []
    going = set(refs)
    while going:
        ref, news = told.get()
        if isinstance(news, CliError):
            problems.append(str(news))
        elif news is None:
            going.discard(ref)
            waiting.discard(ref)
        else:
            newest[ref] = news
            waiting.discard(ref)
        if not waiting and newest and news is not None:
            yield [newest[each] for each in refs if each in newest]
            waiting = set(going) if repeat else {""}
    session.fail_if(problems)
