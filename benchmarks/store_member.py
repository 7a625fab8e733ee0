"""One manager for ``bench_store``: replication, store and cluster port as the daemon has them, in a process.

The store is driven from inside, as control loops do it.  Orders are lines of JSON on standard input, each
answered by a line on standard output::

    {"do": "write", "clients": 64, "seconds": 3}  ->  {"count": 5120, "seconds": 3.0}
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.load import load
from swarmd.kit.clock import SystemClock
from swarmd.model.errors import OutOfSequence, Unavailable
from swarmd.model.objects import Task, TaskStatus
from swarmd.model.states import TaskState
from swarmd.rpc.peer import PeerServer
from swarmd.rpc.v1 import peer_pb2
from swarmd.security.identity import Contexts, Credentials
from swarmd.security.vault import Vault
from swarmd.store.core.transaction import Put
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.sockets import PeerTransport
from swarmd.store.store import Store, StoreState

SWARM = "bench"
VALUE_BYTES = 180
"""About what one changed task takes in the log: what etcd is given to store."""

BATCH = 200
"""Changes of one transaction, as the control loops send them."""


class Member(msgspec.Struct, frozen=True):
    """What a child process is told: who it is, where everybody is, its files."""

    node_id: str
    members: dict[str, str]
    directory: str
    key: str
    certificate: str
    root: str
    found: bool


class Manager:
    """The raft half of a manager and a load on its store."""

    def __init__(self, told: Member) -> None:
        self._told = told
        directory = Path(told.directory)
        clock = SystemClock()
        credentials = Credentials(told.key.encode(), told.certificate.encode(), told.root.encode())
        contexts = Contexts(lambda: credentials, directory / "run")
        self._server = PeerServer(
            node_id=told.node_id, cluster_id=lambda: SWARM, context=contexts.server, on_join=_nobody_joins
        )
        transport = PeerTransport(
            node_id=told.node_id,
            cluster_id=lambda: SWARM,
            server=self._server,
            context=contexts.client,
            clock=clock,
        )
        state = StoreState()
        self._raft = RaftNode(
            node_id=told.node_id,
            address=told.members[told.node_id],
            data_dir=directory / "raft",
            state_machine=state,
            transport=transport,
            clock=clock,
            sealer=_vault(directory / "vault"),
        )
        self._store = Store(state, self._raft, clock)
        self._turn = 0
        self._acts: dict[str, tuple[Callable[[int], Awaitable[object]], int]] = {
            "write": (self._write, 1),
            "read": (self._read, 1),
            "batch": (self._write_batch, BATCH),
        }

    async def start(self) -> None:
        host, _, port = self._told.members[self._told.node_id].rpartition(":")
        await self._server.start(host, int(port))
        await self._raft.start(bootstrap_members=self._told.members if self._told.found else None)

    async def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order of the parent."""
        match order["do"]:
            case "status":
                status = self._raft.status()
                return {"leader": self._raft.is_leader(), "applied": status.applied}
            case "fill":
                return await self._fill(order["tasks"])
            case "write" | "read" | "batch":
                act, weight = self._acts[order["do"]]
                figure = await load(act, order["clients"], order["seconds"], weight=weight)
                return msgspec.structs.asdict(figure)
            case "transfer":
                begin = time.monotonic()
                await self._raft.transfer()
                return {"at": begin}
            case "first_write":
                return await self._first_write(order["limit"])
        raise ValueError(f"unknown order {order}")

    async def _fill(self, tasks: int) -> dict[str, Any]:
        for first in range(0, tasks, BATCH):
            rows = [_task(number) for number in range(first, min(first + BATCH, tasks))]
            await self._store.commit([Put(row) for row in rows])
        return {"tasks": len(self._store.all(Task))}

    async def _write(self, number: int) -> None:
        await self._store.commit([Put(self._changed(_task_id(number)))])

    async def _read(self, number: int) -> None:
        await self._raft.read_index()
        assert self._store.get(Task, _task_id(number)) is not None

    def _changed(self, task_id: str) -> Task:
        """The row with a status as a node reports it."""
        row = self._store.get(Task, task_id)
        assert row is not None
        self._turn += 1
        status = msgspec.structs.replace(row.status, at=float(self._turn), message=f"started {self._turn}")
        return msgspec.structs.replace(row, status=status)

    async def _write_batch(self, number: int) -> None:
        """A transaction of rows that no other client touches."""
        ids = (_task_id(number * BATCH + row) for row in range(BATCH))
        await self._store.commit([Put(self._changed(task_id)) for task_id in ids])

    async def _first_write(self, limit: float) -> dict[str, Any]:
        """When a write was first accepted here, by the clock all processes share; None: it was not."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if not self._raft.is_leader():
                await asyncio.sleep(0.002)
                continue
            try:
                await self._write(0)
            except (OutOfSequence, Unavailable):
                continue
            return {"at": time.monotonic()}
        return {"at": None}


def _task_id(number: int) -> str:
    return f"task{number:021d}"


def _task(number: int) -> Task:
    return Task(
        id=_task_id(number),
        service_id="service" + "0" * 18,
        service_name="bench",
        spec_version=1,
        slot=number + 1,
        node_id="node" + "0" * 21,
        status=TaskStatus(state=TaskState.RUNNING, container_id="c" * 25, pid=number + 1),
    )


async def _nobody_joins(request: peer_pb2.JoinRequest, address: str) -> peer_pb2.JoinReply:
    raise Unavailable("This is a benchmark.")


async def _serve(told: Member) -> None:
    manager = Manager(told)
    await manager.start()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print(json.dumps({"started": True}), flush=True)

    async def answer(line: bytes) -> None:
        order = json.loads(line)
        try:
            result = await manager.do(order)
        except Unavailable as error:
            result = {"error": str(error)}
        print(json.dumps({"id": order["id"], **result}), flush=True)

    async with asyncio.TaskGroup() as group:
        while line := await reader.readline():
            group.create_task(answer(line))


def _vault(directory: Path) -> Vault:
    """As a real manager's disk is: sealed."""
    vault = Vault(directory)
    if vault.exists:
        vault.open_here()
    else:
        vault.create()
    return vault


if __name__ == "__main__":
    asyncio.run(_serve(msgspec.json.decode(sys.argv[1], type=Member)))
