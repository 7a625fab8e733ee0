"""What a change of one task costs with thousands of services loaded: on the leader, on the wire, on a node.

Run in a network namespace of its own; prints one JSON line with milliseconds of CPU.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar, cast

from swarmd.daemon.mesh_file import MeshFile
from swarmd.daemon.mesh_reader import MeshReader
from swarmd.kit.clock import SystemClock
from swarmd.manager.dispatcher.board import DIFFERENCES, MeshBoard
from swarmd.model.addressing import block_of
from swarmd.model.objects import Node, NodeDescription, NodeStatus, Row, Service, Task, TaskStatus
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec, ServiceSpec
from swarmd.model.states import NodeState, TaskState
from swarmd.node.network.port import NodeView
from swarmd.node.network.shell import Network
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.core.tables import Event
from swarmd.store.store import Store

NODES, TASKS, FIRST = 100, 10, 10_000
T = TypeVar("T")


class Rows:
    """As much of a store as the board reads."""

    def __init__(self, services: int) -> None:
        self.index = 1
        self._rows: dict[type[Any], dict[str, Any]] = {Node: {}, Service: {}, Task: {}}
        self._of: dict[str, dict[str, Task]] = {}
        for number in range(1, NODES + 1):
            status = NodeStatus(state=NodeState.READY, address=f"172.30.{number // 250}.{number % 250 + 1}")
            about = NodeDescription(feature_level=DIFFERENCES)
            self.put(Node(id=f"node{number}", number=number, status=status, description=about))
        for number in range(services):
            ports = (PortSpec(target=80, published=FIRST + number),)
            name = f"s{number}"
            self.put(Service(id=name, spec=ServiceSpec(name=name), ports=ports))
            for slot in range(TASKS):
                self.put(task(number, slot))

    def put(self, row: Row) -> Event:
        self.index += 1
        old = self._rows[type(row)].get(row.id)
        self._rows[type(row)][row.id] = row
        if isinstance(row, Task):
            self._of.setdefault(row.service_id, {})[row.id] = row
        return Event(index=self.index, old=old, new=row)

    def get(self, kind: type[Any], row_id: str) -> Any:
        return self._rows[kind].get(row_id)

    def all(self, kind: type[Any]) -> Collection[Any]:
        return self._rows[kind].values()

    def tasks_of_service(self, service_id: str) -> Collection[Task]:
        return self._of.get(service_id, {}).values()


def task(number: int, slot: int) -> Task:
    node = (number + slot) % NODES + 1
    address = block_of(node).removesuffix("0/24") + str(number % 250 + 1)
    return Task(
        id=f"t{number}.{slot}", service_id=f"s{number}", service_name=f"s{number}", spec_version=1, slot=slot,
        node_id=f"node{node}", desired_state=TaskState.RUNNING,
        status=TaskStatus(state=TaskState.RUNNING, address=address),
    )  # fmt: skip


def spent(work: Callable[[], T]) -> tuple[T, float]:
    began = time.process_time()
    return work(), (time.process_time() - began) * 1000


async def measure(services: int, changes: int, place: str) -> dict[str, float]:
    rows = Rows(services)
    board, leader_whole = spent(lambda: MeshBoard(cast(Store, rows)))
    clock = SystemClock()
    network = Network("node1", clock, lambda name, error: print(name, repr(error), file=sys.stderr))
    await network.start()
    await network.configure(NodeView("node1", 1, "172.30.0.2", block_of(1)))
    reader, file = MeshReader(), MeshFile(Path(place) / "mesh.json", clock)

    async def hear(data: bytes) -> None:
        state = reader.read(agent_pb2.NetworkSnapshot.FromString(data))
        assert state is not None
        file.save(state)
        await network.apply(state)
        file._write(file._taken())

    data, encode_whole = spent(lambda: board.snapshot("node1", -1).SerializeToString())
    began = time.process_time()
    await hear(data)
    found = {
        "leader, all": leader_whole, "message, all": encode_whole, "bytes, all": len(data),
        "node, all": (time.process_time() - began) * 1000,
    }  # fmt: skip
    one_by_one: dict[str, list[float]] = {"leader": [], "message": [], "bytes": [], "node": []}
    for turn in range(changes):
        before = task(turn * 7 % services, turn % TASKS)
        known = board.version
        event = rows.put(replace(before, desired_state=TaskState.SHUTDOWN))
        _, leader = spent(lambda event=event: board.react((event,)))  # type: ignore[misc]
        data, message = spent(lambda known=known: board.snapshot("node1", known).SerializeToString())  # type: ignore[misc]
        began = time.process_time()
        await hear(data)
        node = (time.process_time() - began) * 1000
        for name, value in zip(one_by_one, (leader, message, len(data), node), strict=True):
            one_by_one[name].append(value)
    found |= {f"{name}, one": statistics.median(values) for name, values in one_by_one.items()}
    began = time.process_time()
    differences = await network.audit()
    found["audit"] = (time.process_time() - began) * 1000
    assert differences == (), differences[:3]
    await network.stop(clean=True)
    return found


def main() -> None:
    services, changes = int(sys.argv[1]), int(sys.argv[2])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for command in ("ip link set lo up", "ip link add under0 type bridge", "ip link set under0 up",
                    "ip address add 172.30.0.2/16 dev under0"):  # fmt: skip
        subprocess.run(command.split(), check=True)
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(asyncio.run(measure(services, changes, place))))


if __name__ == "__main__":
    main()
