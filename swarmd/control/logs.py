"""The logs of a service: each node is asked for its own tasks', the lines are merged as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import msgspec

from swarmd.control import lookup
from swarmd.kit.supervise import Nursery, caught
from swarmd.model.errors import NotFound, SwarmError
from swarmd.model.objects import Node, Task
from swarmd.model.states import TaskState
from swarmd.store.store import Store
from swarmd.store.watch import Overrun

QUEUE = 1000
"""Lines held for a slow reader before the nodes are made to wait."""


class LogOptions(msgspec.Struct, frozen=True):
    """``tail`` -1 = everything; ``since`` seconds since 1970."""

    follow: bool = False
    tail: int = -1
    since: float = 0.0


class Line(msgspec.Struct, frozen=True):
    """One line a task printed."""

    at: float
    stderr: bool
    data: bytes


class LogItem(msgspec.Struct, frozen=True):
    """A line with where it comes from, or a sentence about logs that cannot be had."""

    task: Task
    node: Node | None
    line: Line | None = None
    warning: str = ""


Reader = Callable[[Node, str, LogOptions], AsyncIterator[Line]]
"""Streams one task's lines from its node; raises SwarmError when the node cannot be asked."""


class Logs:
    """Merges the streams of all tasks of a service, or of one task."""

    def __init__(self, store: Store, read: Reader, report: Callable[[str, BaseException], None]) -> None:
        self._store = store
        self._read = read
        self._report = report

    async def stream(self, ref: str, options: LogOptions) -> AsyncGenerator[LogItem, None]:
        """Lines of every task, also of ended ones; with ``follow`` also of tasks that appear later."""
        service_id, tasks = self._find(ref)
        queue: asyncio.Queue[LogItem | None] = asyncio.Queue(QUEUE)
        nursery = Nursery(self._report)
        seen: set[str] = set()
        running = 0
        watch = self._store.watch()

        def begin(task: Task) -> None:
            nonlocal running
            if task.id in seen or not task.node_id or task.state < TaskState.STARTING:
                return
            seen.add(task.id)
            running += 1
            nursery.start(f"logs of {task.id}", self._pump(task, options, queue))

        async def begin_new() -> None:
            while True:
                with contextlib.suppress(Overrun):  # the pass below looks at everything anyway
                    await watch.next()
                for task in list(self._store.tasks_of_service(service_id)):
                    begin(task)

        try:
            for task in tasks:
                begin(task)
            if options.follow and service_id:
                nursery.start("logs of new tasks", begin_new())
                running += 1
            while running:
                item = await queue.get()
                if item is None:
                    running -= 1
                else:
                    yield item
        finally:
            await nursery.close()

    async def _pump(self, task: Task, options: LogOptions, queue: asyncio.Queue[LogItem | None]) -> None:
        """Whatever goes wrong with one task's lines becomes a sentence: the reader waits for all of them."""
        node = self._store.get(Node, task.node_id)
        error = await caught(self._copy(task, node, options, queue))
        if error is not None:
            if not isinstance(error, SwarmError):
                self._report(f"logs of {task.id}", error)
            where = node.description.hostname if node else task.node_id
            text = f"logs of task {task.name} on node {where}: {error}"
            await queue.put(LogItem(task, node, warning=text))
        await queue.put(None)

    async def _copy(
        self, task: Task, node: Node | None, options: LogOptions, queue: asyncio.Queue[LogItem | None]
    ) -> None:
        if node is None:
            raise NotFound(f"node {task.node_id} is no longer part of the swarm")
        async for line in self._read(node, task.id, options):
            await queue.put(LogItem(task, node, line))

    def _find(self, ref: str) -> tuple[str, list[Task]]:
        """(service id, its tasks), or ("", the one task that is named)."""
        try:
            service = lookup.service(self._store, ref)
        except NotFound:
            try:
                return "", [lookup.task(self._store, ref)]
            except NotFound as error:
                raise NotFound(f"no such task or service: {ref}") from error
        tasks = self._store.tasks_of_service(service.id)
        return service.id, sorted(tasks, key=lambda task: (task.slot, task.created_at))
