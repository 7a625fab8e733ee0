"""Three ``store_member`` processes with certificates of one authority: our side of ``bench_store``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.load import Figure
from benchmarks.store_member import SWARM, Member
from swarmd.model.states import Role
from swarmd.security import ca

_PATIENCE = 15.0


class Child:
    """One process, and orders to it that may overlap."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._orders = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, told: Member) -> Child:
        """Returns when the member listens and has its disk's state."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.store_member", msgspec.json.encode(told).decode(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        child = cls(process)
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise RuntimeError(f"the member {told.node_id} did not start")
        child._reading = asyncio.create_task(child._read())
        return child

    async def order(self, do: str, **more: object) -> dict[str, Any]:
        """Its answer; raises RuntimeError when it could not."""
        self._orders += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._orders] = future
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._orders, "do": do, **more}).encode() + b"\n")
        answer = await future
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()
        if self._reading is not None:
            await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            waiting = self._waiting.pop(answer["id"])
            if not waiting.done():  # nobody waits for a second one's first write
                waiting.set_result(answer)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(RuntimeError("the member ended"))


class Managers:
    """The group; ``ports`` are three free ones."""

    def __init__(self, directory: Path, ports: Sequence[int]) -> None:
        names = {f"manager{n}": f"127.0.0.1:{port}" for n, port in enumerate(ports)}
        root, root_key = ca.new_root(time.time())
        self._told = [_told(name, names, directory, root, root_key) for name in names]
        self._children: dict[int, Child] = {}

    async def up(self, tasks: int) -> None:
        """Found the group and give it ``tasks`` rows."""
        for member in range(3):
            await self.start(member, found=True)
        leader = await self.settled()
        await self._children[leader].order("fill", tasks=tasks)

    async def start(self, member: int, *, found: bool = False) -> None:
        told = msgspec.structs.replace(self._told[member], found=found)
        self._children[member] = await Child.start(told)

    async def kill(self, member: int) -> None:
        await self._children.pop(member).kill()

    async def down(self) -> None:
        for member in list(self._children):
            await self.kill(member)

    async def settled(self) -> int:
        """The leader, once there is one and all three have applied about the same."""
        while True:
            statuses = {n: await child.order("status") for n, child in self._children.items()}
            leaders = [n for n, status in statuses.items() if status["leader"]]
            applied = [status["applied"] for status in statuses.values()]
            if len(statuses) == 3 and len(leaders) == 1 and max(applied) - min(applied) < 10:
                return leaders[0]
            await asyncio.sleep(0.05)

    async def run(self, what: str, clients: int, seconds: float) -> Figure:
        """The load ``what`` ("write", "read", "batch") in the leader."""
        leader = self._children[await self.settled()]
        return msgspec.convert(
            await leader.order(what, clients=clients, seconds=seconds), Figure, strict=False
        )

    async def lose_leader(self) -> float:
        """Seconds from the leader's kill -9 to the next write that another member accepted."""
        leader = await self.settled()
        others = self._others(leader)
        watching = [asyncio.create_task(child.order("first_write", limit=_PATIENCE)) for child in others]
        begin = time.monotonic()
        await self.kill(leader)
        taken = await _first(watching) - begin
        await self.start(leader)
        await self.settled()
        return taken

    async def hand_over(self) -> float:
        """Seconds from asking the leader to hand on to the next write accepted under its heir."""
        leader = await self.settled()
        others = self._others(leader)
        watching = [asyncio.create_task(child.order("first_write", limit=_PATIENCE)) for child in others]
        asked = await self._children[leader].order("transfer")
        return await _first(watching) - float(asked["at"])

    async def restart(self) -> float:
        """Seconds from a follower's start, after kill -9, until it has applied what the others have."""
        leader = await self.settled()
        member = (leader + 1) % 3
        await self.kill(member)
        begin = time.monotonic()
        await self.start(member)
        await self.settled()
        return time.monotonic() - begin

    def _others(self, leader: int) -> list[Child]:
        return [child for n, child in self._children.items() if n != leader]


async def _first(watching: list[asyncio.Task[dict[str, Any]]]) -> float:
    """The earliest time anybody reported."""
    found: float | None = None
    for done in asyncio.as_completed(watching):
        at = (await done)["at"]
        if at is not None:
            found = at
            break
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    if found is None:
        raise TimeoutError(f"no write was accepted within {_PATIENCE:g} s")
    return found


def _told(name: str, members: dict[str, str], directory: Path, root: bytes, root_key: bytes) -> Member:
    own = directory / name
    own.mkdir()
    key = ca.new_key()
    identity = ca.Identity(node_id=name, role=Role.MANAGER, cluster_id=SWARM)
    certificate = ca.sign(
        ca.new_request(key), identity, root_pem=root, root_key_pem=root_key, now=time.time(), life=86400.0
    )
    return Member(
        node_id=name,
        members=members,
        directory=str(own),
        key=key.decode(),
        certificate=certificate.decode(),
        root=root.decode(),
        found=False,
    )
