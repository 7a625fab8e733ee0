"""The pause of a roll with a large state, beside a plain synced write in the same directory.

Three managers in one process, each with its own logs and bases on the disk, so that all three encode their
bases in one interpreter at once: the worst case.  See ``python -m benchmarks.bench_roll --help``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Unavailable
from swarmd.model.objects import Task, TaskStatus
from swarmd.model.states import TaskState
from swarmd.store.core.transaction import Put, encode
from swarmd.store.raft.memory import MemoryNetwork
from swarmd.store.raft.node import RaftNode
from swarmd.store.store import StoreState

ADDRESSES = {name: f"10.0.0.{number}:2377" for number, name in enumerate("abc", 1)}
_PER_TRANSACTION = 200


class Probe:
    """Notes when the leader's epochs end, and when the first change of the next is applied there."""

    def __init__(self, node: RaftNode) -> None:
        self.pauses: list[float] = []
        self._sealed: float | None = None
        member, replica = node._member, node._replica
        roll, apply = member._roll, replica.apply

        async def rolled(*end: object) -> None:
            self._sealed = time.perf_counter()
            await roll(*end)  # type: ignore[arg-type]

        def applied(envelope: object) -> object:
            if self._sealed is not None:
                self.pauses.append(time.perf_counter() - self._sealed)
                self._sealed = None
            return apply(envelope)  # type: ignore[arg-type]

        member._roll = rolled  # type: ignore[method-assign, assignment]
        replica.apply = applied  # type: ignore[method-assign, assignment]


def a_task(number: int) -> Task:
    status = TaskStatus(state=TaskState.RUNNING, container_id="c" * 64)
    return Task(
        id=f"task{number:021d}",
        service_id="s" * 25,
        service_name="web",
        spec_version=3,
        slot=number,
        node_id="n" * 25,
        status=status,
    )


def synced_write(directory: Path) -> float:
    """Seconds that 512 bytes take until they are on the disk."""
    fd = os.open(directory / "floor.bin", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        began = time.perf_counter()
        os.write(fd, bytes(512))
        os.fdatasync(fd)
        return time.perf_counter() - began
    finally:
        os.close(fd)


async def late(delays: list[float]) -> None:
    """Note how much later than asked for the event loop comes back."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        delays.append(time.perf_counter() - began - 0.001)


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def make(network: MemoryNetwork, directory: Path, name: str, *, roll_entries: int) -> RaftNode:
    return RaftNode(
        node_id=name,
        address=ADDRESSES[name],
        data_dir=directory / name,
        state_machine=StoreState(),
        transport=network.transport(name),
        clock=SystemClock(),
        roll_entries=roll_entries,
    )


async def measure(directory: Path, *, tasks: int, rolls: int, entries: int) -> None:
    network = MemoryNetwork()
    nodes = [make(network, directory, name, roll_entries=entries) for name in ADDRESSES]
    for node in nodes:
        await node.start(bootstrap_members=ADDRESSES)
    probes = [Probe(node) for node in nodes]
    number = 0
    while number < tasks:
        rows = [Put(a_task(n)) for n in range(number, number + _PER_TRANSACTION)]
        await propose(nodes, encode(time.time(), rows))
        number += _PER_TRANSACTION
    floor: list[float] = []
    writes: list[float] = []
    delays: list[float] = []
    ticking = asyncio.ensure_future(late(delays))
    for probe in probes:
        probe.pauses.clear()
    while sum(len(probe.pauses) for probe in probes) < rolls * len(nodes):
        row = Put(a_task(number))
        number += 1
        began = time.perf_counter()
        await propose(nodes, encode(time.time(), [row]))
        writes.append(time.perf_counter() - began)
        if number % 5 == 0:
            floor.append(await asyncio.to_thread(synced_write, directory))
    ticking.cancel()
    pauses = [pause for probe in probes for pause in probe.pauses]
    base = max(path.stat().st_size for path in directory.glob("*/base-*.snapshot"))
    for node in nodes:
        await node.stop()
    unit = quantile(floor, 0.5)
    print(
        f"{tasks} tasks, base {base >> 10} KiB, {len(pauses)} rolls; a synced write takes {unit * 1e3:.2f} ms"
    )
    for what, values in [
        ("pause", pauses),
        ("write", writes),
        ("loop late", delays),
        ("synced write", floor),
    ]:
        p50, p99, most = (quantile(values, share) for share in (0.5, 0.99, 1.0))
        print(
            f"{what:13} p50 {p50 * 1e3:7.2f} p99 {p99 * 1e3:7.2f} max {most * 1e3:7.2f} ms"
            f" = {p50 / unit:6.1f} {p99 / unit:6.1f} {most / unit:6.1f} synced writes"
        )


async def grow(directory: Path, *, tasks: int, rounds: int) -> None:
    """From one manager to two: the second follows the log of the epoch, and then the epoch ends."""
    agreed: list[float] = []
    pauses: list[float] = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir=directory) as place:
            until_agreed, pause = await _grow_once(Path(place), tasks=tasks + number)
        agreed.append(until_agreed)
        pauses.append(pause)
    p50, p99 = quantile(pauses, 0.5), quantile(pauses, 0.99)
    print(f"1 -> 2 managers, {rounds} times: agreed after {quantile(agreed, 0.5):.2f} s (p50)")
    print(f"next write after that p50 {p50 * 1e3:7.2f} p99 {p99 * 1e3:7.2f} ms")


async def _grow_once(directory: Path, *, tasks: int) -> tuple[float, float]:
    """Seconds until the change is agreed upon, and from then until a write is accepted."""
    network = MemoryNetwork()
    nodes = [make(network, directory, name, roll_entries=1 << 30) for name in "ab"]
    first, second = nodes
    await first.start(bootstrap_members={"a": ADDRESSES["a"]})
    for number in range(0, tasks, _PER_TRANSACTION):
        await propose(
            nodes, encode(time.time(), [Put(a_task(n)) for n in range(number, number + _PER_TRANSACTION)])
        )
    await second.start(peers={"a": ADDRESSES["a"]})
    while not second.status().applied:  # noqa: ASYNC110 - any condition
        await asyncio.sleep(0.05)
    began = time.perf_counter()
    await first.change_members({name: ADDRESSES[name] for name in "ab"})
    changed = time.perf_counter()
    await propose(nodes, encode(time.time(), [Put(a_task(tasks))]))
    ended = time.perf_counter()
    for node in nodes:
        await node.stop()
    return changed - began, ended - changed


async def propose(nodes: list[RaftNode], command: bytes) -> None:
    while True:
        with contextlib.suppress(Unavailable):
            for node in nodes:
                if node.is_leader():
                    await node.propose(command)
                    return
        await asyncio.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_roll", description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000, help="rows of the state")
    parser.add_argument("--rolls", type=int, default=40)
    parser.add_argument("--grows", type=int, default=10, help="times that one manager becomes two")
    parser.add_argument("--entries", type=int, default=300, help="between two rolls")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to be measured")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        asyncio.run(measure(Path(directory), tasks=chosen.tasks, rolls=chosen.rolls, entries=chosen.entries))
        asyncio.run(grow(Path(directory), tasks=chosen.tasks, rounds=chosen.grows))


if __name__ == "__main__":
    main()
