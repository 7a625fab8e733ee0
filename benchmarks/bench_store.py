"""The replicated store beside etcd: three managers and three etcd members, same disk, same run, in turns.

Both sides have TLS between members, real disks and a process for each member.  Ours is driven inside the
leader, as its control loops do it; etcd through its gRPC, by a client that costs next to nothing (``h2``).
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from benchmarks.etcd import Etcd
from benchmarks.load import Figure
from benchmarks.managers import Managers
from benchmarks.store_member import VALUE_BYTES

TASKS = 10_000

LOADS = (
    ("durable writes of one row, 1 client", "write", 1),
    ("durable writes of one row, 64 clients", "write", 64),
    ("linearizable reads, 1 client", "read", 1),
    ("linearizable reads, 64 clients", "read", 64),
    ("task changes in transactions of 200 (etcd: 128 keys), 4 in flight", "batch", 4),
)


class Options(msgspec.Struct, frozen=True):
    """How long to look."""

    rounds: int
    seconds: float
    kills: int
    only: str


async def measure(options: Options, directory: Path) -> None:
    ports = free_ports(9)
    etcd = Etcd(directory, ports[:6], bytes(VALUE_BYTES))
    managers = Managers(directory, ports[6:])
    try:
        await etcd.up()
        await managers.up(TASKS)
        print("| what | ours | etcd | ratio |\n|---|---|---|---|")
        for title, what, clients in LOADS:
            if options.only in ("", what):
                await compare_rates(title, what, clients, options, etcd, managers)
        if options.only in ("", "loss"):
            await compare_times(
                "leader kill -9 → next write", managers.lose_leader, etcd.lose_leader, options.kills
            )
        if options.only in ("", "handover"):
            await compare_times("hand-over → next write", managers.hand_over, etcd.hand_over, options.kills)
        if options.only in ("", "restart"):
            taken = [await managers.restart() for _ in range(options.rounds)]
            say(f"| restart of a manager with {TASKS} tasks | {_times(taken)} | | |")
    finally:
        await managers.down()
        etcd.down()


async def compare_rates(
    title: str, what: str, clients: int, options: Options, etcd: Etcd, managers: Managers
) -> None:
    """One row of the table: medians of rounds taken in turns."""
    ours: list[Figure] = []
    theirs: list[Figure] = []
    for _ in range(options.rounds):
        ours.append(await managers.run(what, clients, options.seconds))
        theirs.append(await etcd.run(what, clients, options.seconds))
    rates = [statistics.median(figure.rate for figure in side) for side in (ours, theirs)]
    say(f"| {title} | {rates[0]:.0f}/s | {rates[1]:.0f}/s | {rates[0] / rates[1]:.2f} |")


async def compare_times(
    title: str, our: Callable[[], Awaitable[float]], their: Callable[[], Awaitable[float]], count: int
) -> None:
    """One row of the table: how long a change of leaders takes, in turns."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(count):
        ours.append(await our())
        theirs.append(await their())
    ratio = statistics.median(ours) / statistics.median(theirs)
    say(f"| {title} | {_times(ours)} | {_times(theirs)} | {ratio:.2f} |")


def _times(taken: list[float]) -> str:
    return f"p50 {statistics.median(taken) * 1000:.0f} ms, max {max(taken) * 1000:.0f} ms"


def free_ports(count: int) -> list[int]:
    """Free at this moment, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load in each round")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", default="", help="write, read, batch, loss, handover or restart")
    options = msgspec.convert(vars(parser.parse_args()), Options)
    with tempfile.TemporaryDirectory(prefix="swb", dir="/var/tmp") as directory:
        asyncio.run(measure(options, Path(directory)))


if __name__ == "__main__":
    sys.exit(main())
