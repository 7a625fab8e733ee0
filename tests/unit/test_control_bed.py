"""What the tests of use cases, dispatcher and daemon stand on: a clock that waits, a store of one manager."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence

from swarmd.control.networks import Networks
from swarmd.control.registry import Registry
from swarmd.control.services import Services
from swarmd.control.trust import Trusts
from swarmd.model.image_ref import ImageRef
from swarmd.model.objects import Row, Service, Task, TaskStatus
from swarmd.model.replace import replace
from swarmd.model.spec import ContainerSpec, PortSpec, ServiceSpec, TaskTemplate
from swarmd.model.states import TaskState
from swarmd.store.core.transaction import Put
from swarmd.store.raft.single import SingleProposer
from swarmd.store.store import Store, StoreState

TURNS = 2000
"""Turns of the event loop after which something that only needs turns is not going to happen."""

ImageRefs = dict[str, str]


class ManualClock:
    """Stands still until a test moves it."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + max(0.0, seconds), id(woken), woken))
        await woken

    def advance(self, seconds: float) -> None:
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)


async def eventually(condition: Callable[[], object]) -> None:
    """Until ``condition`` holds, by turns of the loop and not by time."""
    for _ in range(TURNS):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("this never happened")


async def settle(turns: int = 50) -> None:
    """Let everything that can go on without time go on."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Interposing:
    """A proposer before whose next proposal somebody else is quicker."""

    def __init__(self, state: StoreState) -> None:
        self._single = SingleProposer(state)
        self.first: list[Callable[[], Awaitable[object]]] = []
        self.count = 0

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> object:
        if self.first:
            await self.first.pop(0)()
        self.count += 1
        return await self._single.propose(command, timeout=timeout)


class Bed:
    """One manager's store and the use cases of services on it; ``images``: what the nodes hold."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.state = StoreState()
        self.proposer = Interposing(self.state)
        self.store = Store(self.state, self.proposer, self.clock)
        self.images: ImageRefs = {}
        self.trust = Trusts(self.store, self.clock, lambda: self._located)
        self.services = Services(self.store, self.clock, self.new_id, self._pin, admit=self.trust.admit)
        self.networks = Networks(self.store, self.new_id)
        self.registry = Registry(
            self.store, self.clock, domains=("localhost:5000", "127.0.0.1:5000"), spread=self._spread
        )
        self.spread: list[tuple[list[str], str]] = []
        self._ids = 0

    def new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids:03d}"

    async def _spread(self, digests: Sequence[str], *, holder: str) -> None:
        self.spread.append((list(digests), holder))

    def _located(self, ref: ImageRef) -> str:
        return self.images.get(ref.familiar(), "")

    async def _pin(self, ref: ImageRef) -> str:
        return self._located(ref)

    async def put(self, *rows: Row) -> None:
        await self.store.commit([Put(row) for row in rows])

    def quicker(self, row_of: Callable[[], Row]) -> None:
        """Before the next commit somebody else writes this row."""

        async def write() -> None:
            await self.store.commit([Put(row_of())])

        self.proposer.first.append(write)

    def service(self, name: str) -> Service:
        found = self.store.service_by_name(name)
        assert found is not None
        return found

    async def change(self, name: str, /, **changes: object) -> list[str]:
        """Update a service as a user does who has just read it."""
        row = self.service(name)
        spec = replace(row.spec, **changes)
        return await self.services.update(name, row.version, spec, resolve_image=False)


def a_spec(name: str = "web", *, image: str = "nginx:1", ports: tuple[PortSpec, ...] = ()) -> ServiceSpec:
    return ServiceSpec(name=name, template=TaskTemplate(container=ContainerSpec(image=image)), ports=ports)


def ingress(published: int, target: int = 80) -> PortSpec:
    return PortSpec(target=target, published=published)


def a_task(task_id: str, node_id: str, state: TaskState = TaskState.RUNNING, **fields: object) -> Task:
    base = Task(
        id=task_id, service_id="s1", service_name="web", spec_version=1, slot=1, node_id=node_id,
        status=TaskStatus(state=state),
    )  # fmt: skip
    return replace(base, **fields)
