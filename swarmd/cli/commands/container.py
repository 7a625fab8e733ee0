"""Commands on one container, a task's on whatever node or one of this node: top, diff, pause, kill, …"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.commands.service_logs import parse_tail
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Parsed, switch
from swarmd.cli.table import layout
from swarmd.cli.units import parse_cpus, parse_since, parse_size, rfc3339

if TYPE_CHECKING:
    from swarmd.rpc.v1 import containers_pb2 as pb

_SIZE, _CPUS = Parsed("bytes", parse_size), Parsed("decimal", parse_cpus)


@click.command("top", cls=Command)
@click.argument("ref", metavar="TASK|CONTAINER")
def top(ref: str) -> None:
    """Display the running processes of a container."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    with session.open_client() as client:
        answer = client.containers.Top(pb.ContainerRequest(ref=ref))
    session.print_lines(process_lines(answer))


def process_lines(answer: pb.TopResponse) -> list[str]:
    """A table like that of ``ps -ef``; ids as the node has them."""
    import time

    rows = [("UID", "PID", "PPID", "STATE", "STIME", "TIME", "CMD")]
    for each in answer.processes:
        started = time.strftime("%H:%M", time.localtime(each.started_at))
        seconds = int(each.cpu_time)
        spent = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        rows.append((str(each.uid), str(each.pid), str(each.ppid), each.state, started, spent, each.command))
    return layout(rows)


@click.command("diff", cls=Command)
@click.argument("ref", metavar="TASK|CONTAINER")
def diff(ref: str) -> None:
    """Show what a container has changed in its file system: A added, C changed, D deleted."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    with session.open_client() as client:
        answer = client.containers.Diff(pb.ContainerRequest(ref=ref))
    session.print_lines(f"{change.kind} {change.path}" for change in answer.changes)


@click.command("pause", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="TASK|CONTAINER...")
def pause(refs: tuple[str, ...]) -> None:
    """Let all processes of containers stand still."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    with session.open_client() as client:
        session.each(refs, lambda ref: client.containers.Pause(pb.ContainerRequest(ref=ref)))


@click.command("unpause", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="TASK|CONTAINER...")
def unpause(refs: tuple[str, ...]) -> None:
    """Let paused containers go on."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    with session.open_client() as client:
        session.each(refs, lambda ref: client.containers.Unpause(pb.ContainerRequest(ref=ref)))


@click.command("kill", cls=Command)
@click.option("-s", "--signal", default="", help="Signal to send (default SIGKILL)")
@click.argument("refs", nargs=-1, required=True, metavar="TASK|CONTAINER...")
def kill(signal: str, refs: tuple[str, ...]) -> None:
    """Send a signal to the programs of containers."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    with session.open_client() as client:
        session.each(refs, lambda ref: client.containers.Kill(pb.KillRequest(ref=ref, signal=signal)))


@click.command("wait", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="TASK|CONTAINER...")
def wait(refs: tuple[str, ...]) -> None:
    """Block until containers end, then print their exit codes."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    with session.open_client() as client:

        def one(ref: str) -> None:
            click.echo(client.containers.Wait(pb.ContainerRequest(ref=ref)).exit_code)

        session.fail_if(session.collect(refs, one)[1])


@click.command("logs", cls=Command)
@switch("-f", "--follow", text="Follow log output")
@click.option("-n", "--tail", metavar="NUMBER|all", default="all", help="Lines from the end")
@click.option("--since", default="", help="Since a timestamp or for a duration (e.g. 42m)")
@switch("-t", "--timestamps", text="Show timestamps")
@click.argument("ref", metavar="TASK|CONTAINER")
def logs(follow: bool | None, tail: str, since: str, timestamps: bool | None, ref: str) -> None:
    """Fetch the logs of a container."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    try:
        start = parse_since(since, session.now()) if since else 0.0
    except ValueError as error:
        raise CliError(str(error)) from None
    request = pb.ContainerLogsRequest(ref=ref, follow=bool(follow), tail=parse_tail(tail), since=start)
    with session.open_client() as client:
        for entry in client.containers.ReadLogs(request):
            print_entry(entry, timestamps=bool(timestamps))


def print_entry(entry: pb.ContainerLogsResponse, *, timestamps: bool = False) -> None:
    """A line of a container's output, to the stream that it came from."""
    stream = sys.stderr if entry.stderr else sys.stdout
    before = f"{rfc3339(entry.at)} ".encode() if timestamps else b""
    stream.flush()
    stream.buffer.write(before + entry.line)
    stream.buffer.flush()


@click.command("update", cls=Command)
@click.option("--blkio-weight", type=int, help="Share of block IO, between 10 and 1000, 0: none of its own")
@click.option("--cpu-period", type=int, help="Period of the CPU quota in microseconds")
@click.option("--cpu-quota", type=int, help="CPU time in a period in microseconds")
@click.option("-c", "--cpu-shares", type=int, help="Share of the CPU, relative to others")
@click.option("--cpus", "nano_cpus", type=_CPUS, help="Number of CPUs")
@click.option("--cpuset-cpus", help="CPUs it may run on (0-3, 0,1)")
@click.option("--cpuset-mems", help="Memory nodes it may use (0-3, 0,1)")
@click.option("-m", "--memory", type=_SIZE, help="Memory limit")
@click.option("--memory-reservation", type=_SIZE, help="Soft memory limit")
@click.option("--memory-swap", metavar="bytes", help="Memory and swap together; -1: any amount of swap")
@click.option("--pids-limit", "pids", type=int, help="Most processes and threads; 0: any number")
@click.argument("refs", nargs=-1, required=True, metavar="TASK|CONTAINER...")
def update(refs: tuple[str, ...], memory_swap: str | None, **limits: int | str | None) -> None:
    """Change the limits of running containers; a task's next container has its service's again."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    given = {name: value for name, value in limits.items() if value is not None}
    if memory_swap is not None:
        try:
            given["memory_swap"] = -1 if memory_swap == "-1" else parse_size(memory_swap)
        except ValueError as error:
            raise click.UsageError(
                f'invalid argument "{memory_swap}" for "--memory-swap" flag: {error}'
            ) from None
    with session.open_client() as client:
        session.each(
            refs,
            lambda ref: client.containers.SetLimits(pb.SetLimitsRequest(ref=ref, **given)),  # type: ignore[arg-type]
        )
