"""One task's life on this node: ask ``core.steps`` what comes next, do it, remember, report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import caught, race, until
from swarmd.model.errors import NotFound, SwarmError, Unavailable
from swarmd.model.objects import TaskStatus
from swarmd.model.replace import replace
from swarmd.model.states import TaskState
from swarmd.node.agent.core.health import Condition
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.agent.core.steps import (
    Step,
    advance,
    broken,
    condemned,
    conditioned,
    ended,
    failed,
    next_step,
    resumed,
    stopped,
)
from swarmd.node.agent.executor import Executor
from swarmd.node.agent.insist import insist, patience
from swarmd.node.runtime.port import ContainerState

WATCH_PAUSE = 1.0
"""Seconds before a container is looked after again that could not be."""

Changed = Callable[[TaskRecord], Awaitable[None]]
"""Makes a new record durable, then reports its status.  Raises Unavailable when the disk does not take it."""

Said = Callable[[str, TaskStatus], None]
"""Reports the status of a task that waits: nothing but its message is new, and that needs no disk."""


class TaskRunner:
    """Runs until the task is removed.  What is wanted may change at any time: :meth:`want`.

    ``broken`` is a reason to end the task as failed, found before it runs.
    """

    def __init__(
        self,
        record: TaskRecord,
        executor: Executor,
        clock: Clock,
        *,
        changed: Changed,
        said: Said,
        broken: str = "",
    ) -> None:
        self.record = record
        self._durable = record.status
        self._executor = executor
        self._clock = clock
        self._changed = changed
        self._said = said
        self._broken = broken
        self._gone = False
        self._log = structlog.get_logger()
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()
        self._removed = asyncio.Event()
        self._wake()

    def want(self, desired: TaskState, *, removed: bool = False) -> bool:
        """The managers want the task otherwise, or not at all any more.

        What is wanted only grows, as a task's states do.  True: it was news.
        """
        fresh = replace(
            self.record, desired=max(desired, self.record.desired), removed=removed or self.record.removed
        )
        news = fresh != self.record
        self.record = fresh
        self._wake()
        return news

    async def run(self) -> None:
        """Step by step to the end; returns when nothing of the task is left.

        A failure nobody foresaw ends the task, not its runner.
        """
        found = self._executor.found(self.record.task_id)
        self.record = replace(self.record, status=resumed(self.record.status, found))
        backoff = patience()
        while not self._gone:
            error = await caught(self._step())
            if error is not None:
                self._log.error("task_step_failed", task=self.record.task_id, exc_info=error)
                self._broken = self._broken or f"internal error: {error!r}"
                self._say(error)
                await self._clock.sleep(backoff.next())

    async def _step(self) -> None:
        record = self.record
        if record.status.state.is_terminal and record.removed:
            await insist(lambda: self._executor.remove(record.task_id), self._clock, self._say)
            self._gone = True
        elif self._broken and not record.status.state.is_terminal:
            await insist(lambda: self._end(record, patient=False), self._clock, self._say)
            await self._set(broken(self.record.status, self._broken, at=self._clock.now()))
        else:
            await self._do(next_step(record.status.state, record.desired))

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
            await self._stop()
        else:
            await self._wanted.wait()
            self._wanted.clear()

    async def _prepare(self) -> None:
        await self._move(TaskState.PREPARING, "preparing")
        backoff = patience()
        while not self._unwanted.is_set():
            try:
                await until(self._executor.prepare(self.record), self._unwanted)
            except Unavailable as error:
                self._say(error)
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
        if self._unwanted.is_set():
            return
        try:
            made = await self._executor.create(self.record)
            # Durable before the program runs: a daemon that comes back knows the address of what it
            # finds, and never runs a program again that has run.
            status = replace(
                self.record.status,
                pid=made.pid,
                address=made.address,
                address6=made.address6,
                container_id=self.record.task_id,
            )
            await self._set(status)
            if self._unwanted.is_set():
                return
            await self._executor.launch(self.record.task_id)
        except SwarmError as error:
            text = f"starting container failed: {error}"
            await self._set(failed(self.record.status, text, at=self._clock.now()))

    async def _watch(self) -> None:
        """Until the container ends, its probes condemn it, or it is not wanted any more."""
        try:
            final = await until(self._life(), self._unwanted)
        except NotFound:
            self._broken = "task: its container is gone from this node"
            return
        except Unavailable as error:
            self._say(error)
            await until(self._clock.sleep(WATCH_PAUSE), self._unwanted)
            return
        if final is None:
            return
        if isinstance(final, str):
            await self._condemn(final)
        elif self._unwanted.is_set():
            await self._set(stopped(self.record.status, final.exit_code, at=self._clock.now()))
        else:
            code = 255 if final.exit_code is None else final.exit_code
            await self._set(
                ended(
                    self.record.status,
                    code,
                    at=self._clock.now(),
                    oom_killed=final.oom_killed,
                    error=final.error,
                )
            )
        await self._executor.released(self.record.task_id)

    async def _life(self) -> ContainerState | str:
        """How it ended, or why it must."""
        works: tuple[Coroutine[Any, Any, ContainerState | str], ...]
        works = (self._executor.wait(self.record.task_id), self._look_after())
        return await race(*works)

    async def _look_after(self) -> str:
        """Tell when the program is up and how it is; answers why it must not go on."""
        probing = self._executor.probing(self.record)
        if self.record.status.state is TaskState.STARTING and not probing.tells_when_up:
            await self._executor.until_listening(self.record, self.record.status.pid)
        if self._executor.is_running(self.record.task_id):
            await self._conditioned(probing.condition)
        return await probing.run(self._conditioned)

    async def _conditioned(self, condition: Condition) -> None:
        await self._set(conditioned(self.record.status, condition, at=self._clock.now()))

    async def _condemn(self, reason: str) -> None:
        record = self.record
        # It leaves the mesh like a task that is told to stop: no new connections while it ends.
        self._said(record.task_id, replace(self._durable, unready=True, message=f"stopping: {reason}"))
        final = await insist(lambda: self._end(record, patient=False), self._clock, self._say)
        code = final.exit_code if final else None
        await self._set(condemned(self.record.status, code, reason, at=self._clock.now()))

    async def _stop(self) -> None:
        record = self.record
        final = await insist(lambda: self._end(record), self._clock, self._say)
        await self._set(stopped(self.record.status, final.exit_code if final else None, at=self._clock.now()))

    def _end(self, record: TaskRecord, *, patient: bool = True) -> Coroutine[Any, Any, ContainerState | None]:
        return self._executor.stop(record, self._tell, patient=patient)

    async def _move(self, state: TaskState, message: str) -> None:
        await self._set(advance(self.record.status, state, at=self._clock.now(), message=message))

    async def _set(self, status: TaskStatus) -> None:
        """The new status, durable.  A disk that does not take it is waited for, but does not keep a task
        from being stopped, nor one that is forgotten anyway from being removed."""
        if status == self.record.status:
            return
        self.record = replace(self.record, status=status)
        overtaken = self._removed if status.state.is_terminal else self._unwanted
        backoff = patience()
        while True:
            try:
                await self._changed(self.record)
            except Unavailable as error:
                self._say(error)
            else:
                self._durable = status
                return
            await until(self._clock.sleep(backoff.next()), overtaken)
            if overtaken.is_set():
                return

    def _say(self, error: Exception) -> None:
        self._tell(f"waiting: {error}")

    def _tell(self, message: str) -> None:
        self._said(self.record.task_id, replace(self._durable, message=message))

    def _wake(self) -> None:
        self._wanted.set()
        if self.record.removed:
            self._removed.set()
        if self.record.removed or self.record.desired > TaskState.RUNNING:
            self._unwanted.set()
