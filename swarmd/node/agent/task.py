"""One task's life on this node: ask ``core.steps`` what comes next, do it, remember, report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from swarmd.kit.backoff import Backoff
from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.kit.supervise import until
from swarmd.model.errors import NotFound, SwarmError, Unavailable
from swarmd.model.objects import TaskStatus
from swarmd.model.replace import replace
from swarmd.model.states import TaskState
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.agent.core.steps import Step, advance, ended, failed, next_step, stopped
from swarmd.node.agent.executor import Executor

Changed = Callable[[TaskRecord], Awaitable[None]]
"""Makes a new record durable, then reports its status."""


class TaskRunner:
    """Runs until the task is removed.  What is wanted may change at any time: :meth:`want`."""

    def __init__(self, record: TaskRecord, executor: Executor, clock: Clock, changed: Changed) -> None:
        self.record = record
        self._executor = executor
        self._clock = clock
        self._changed = changed
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()

    def want(self, desired: TaskState, *, removed: bool = False) -> None:
        """The managers want the task otherwise, or not at all any more."""
        self.record = replace(self.record, desired=desired, removed=removed)
        self._wanted.set()
        if removed or desired > TaskState.RUNNING:
            self._unwanted.set()

    async def run(self) -> None:
        """Step by step to the end; returns when nothing of the task is left."""
        self._recover()
        while not (self.record.removed and self.record.status.state.is_terminal):
            desired = TaskState.REMOVE if self.record.removed else self.record.desired
            step = next_step(self.record.status.state, desired)
            await self._do(step)
        await self._executor.remove(self.record.task_id)

    async def _do(self, step: Step) -> None:
        if step is Step.ACCEPT:
            await self._move(TaskState.ACCEPTED, "accepted")
        elif step is Step.PREPARE:
            await self._prepare()
        elif step is Step.START:
            await self._start()
        elif step is Step.WATCH:
            await self._watch()
        elif step is Step.STOP:
            final = await self._executor.stop(self.record)
            await self._set(
                stopped(self.record.status, final.exit_code if final else None, at=self._clock.now())
            )
        else:
            await self._wanted_changed()

    async def _prepare(self) -> None:
        await self._move(TaskState.PREPARING, "preparing")
        backoff = Backoff(first=0.2, cap=5.0, fraction=random_fraction)
        while not self._unwanted.is_set():
            try:
                await until(self._executor.prepare(self.record), self._unwanted)
            except Unavailable as error:
                await self._set(replace(self.record.status, message=f"waiting: {error}"))
                await until(self._clock.sleep(backoff.next()), self._unwanted)
            except SwarmError as error:
                await self._set(failed(self.record.status, str(error), at=self._clock.now()))
                return
            else:
                if not self._unwanted.is_set():
                    await self._move(TaskState.READY, "prepared")
                return

    async def _start(self) -> None:
        await self._move(TaskState.STARTING, "starting")
        try:
            pid, address = await self._executor.start(self.record)
        except SwarmError as error:
            text = f"starting container failed: {error}"
            await self._set(failed(self.record.status, text, at=self._clock.now()))
            return
        # Durable before anything waits: a daemon that restarts now finds the address of what runs.
        status = replace(self.record.status, pid=pid, address=address, container_id=self.record.task_id)
        await self._set(status)
        await self._become_running()

    async def _become_running(self) -> None:
        await until(self._executor.until_listening(self.record, self.record.status.pid), self._unwanted)
        if self._executor.is_running(self.record.task_id) and not self._unwanted.is_set():
            await self._move(TaskState.RUNNING, "started")

    async def _watch(self) -> None:
        """Until the container ends or is not wanted any more."""
        if self.record.status.state is TaskState.STARTING and self._executor.is_running(self.record.task_id):
            await self._become_running()
        try:
            final = await until(self._executor.wait(self.record.task_id), self._unwanted)
        except NotFound:
            text = "task: its container is gone from this node"
            await self._set(failed(self.record.status, text, at=self._clock.now()))
            return
        if final is None:
            return
        await self._executor.released(self.record.task_id)
        if self._unwanted.is_set():
            await self._set(stopped(self.record.status, final.exit_code, at=self._clock.now()))
            return
        code = 255 if final.exit_code is None else final.exit_code
        status = ended(
            self.record.status, code, at=self._clock.now(), oom_killed=final.oom_killed, error=final.error
        )
        await self._set(status)

    async def _wanted_changed(self) -> None:
        await self._wanted.wait()
        self._wanted.clear()

    async def _move(self, state: TaskState, message: str) -> None:
        await self._set(advance(self.record.status, state, at=self._clock.now(), message=message))

    async def _set(self, status: TaskStatus) -> None:
        if status != self.record.status:
            self.record = replace(self.record, status=status)
            await self._changed(self.record)

    def _recover(self) -> None:
        """After a restart of the daemon: a step that was cut off in its middle begins again."""
        status = self.record.status
        if status.state is TaskState.STARTING and not status.container_id:
            state = self._executor.state(self.record.task_id)
            if state is None or state.status != "running":
                # Memory only: states never go back for the managers, who know STARTING already.
                self.record = replace(self.record, status=replace(status, state=TaskState.READY))
