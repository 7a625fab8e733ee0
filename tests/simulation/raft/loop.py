"""A deterministic event loop in virtual time, in which whole machines freeze or die between two callbacks.

Everything that runs belongs to the process whose context it runs in: a frozen process's callbacks wait, a
dead one's are dropped, as if its power was cut.  Nothing sleeps and no thread is used: time jumps to the next
timer, and disk work is done in the loop after a virtual delay.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any


class PowerLost(BaseException):
    """The machine is gone in the middle of a call; no code of its own sees this."""


class Process:
    """One run of a program on a machine, from its start until it ends, is killed or loses power."""

    def __init__(self, name: str, loop: SimLoop) -> None:
        self.name = name
        self.loop = loop
        self.dead = False
        self.frozen = False
        self.on_step: Callable[[], None] | None = None
        self.tasks: list[asyncio.Task[Any]] = []
        self._waiting: list[events.Handle] = []
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)

    def run(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """Start ``work`` inside this process."""
        return self.loop.create_task(work, name=name, context=self.context)

    def later(self, delay: float, callback: Callable[..., None], *args: Any) -> None:
        """Call ``callback`` inside this process after ``delay``, if it lives."""
        self.loop.call_later(delay, callback, *args, context=self.context)

    def keep(self, handle: events.Handle) -> None:
        self._waiting.append(handle)

    def thaw(self) -> None:
        """Everything that waited happens now, in order."""
        self.frozen = False
        waiting, self._waiting = self._waiting, []
        self.loop.again(waiting)

    def kill(self) -> None:
        self.dead = True
        self._waiting.clear()


PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


class SimLoop(asyncio.BaseEventLoop):
    """Runs callbacks one at a time, ordered by time and then by when they were asked for."""

    _ready: Any
    _scheduled: Any

    def __init__(self, limit: int = 20_000) -> None:
        super().__init__()
        self.spinning: Callable[[], BaseException] = lambda: RuntimeError("time does not move on")
        self._still = 0
        self._asked = itertools.count()
        self.now = 1000.0
        self.steps = 0
        self.failures: list[str] = []
        self.stopped_by: BaseException | None = None
        self.over = False
        self._limit = limit
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        return self.now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        """As the base has it, but with tuples in the heap: they compare faster, and keep the order."""
        timer = events.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, (when, next(self._asked), timer))
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def again(self, handles: list[events.Handle]) -> None:
        self._ready.extend(handles)

    def fail(self, error: BaseException) -> None:
        """End the simulation with ``error``."""
        self.stopped_by = self.stopped_by or error
        self.stop()

    def _failed(self, loop: object, context: dict[str, Any]) -> None:
        if not self.over:
            self.failures.append(f"{context['message']}: {context.get('exception')!r}")

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        process = (options.get("context") or copy_context()).get(PROCESS)
        if process is not None:
            # The tasks of a dead process must not be collected: their clean-up would run.
            process.tasks.append(task)
        return task

    def _run_once(self) -> None:
        if not self._ready:
            self._advance()
        handle = self._ready.popleft()
        if handle._cancelled:
            return
        process = handle._context.get(PROCESS)
        if process is None:
            handle._run()
        elif process.dead:
            return
        elif process.frozen:
            process.keep(handle)
        else:
            handle._run()
            if process.on_step is not None and not process.dead:
                process.on_step()
        self.steps += 1
        self._still += 1
        if self._still > self._limit:
            self.fail(self.spinning())

    def _advance(self) -> None:
        """Move on to the next timer."""
        while self._scheduled:
            _, _, timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._still = 0 if timer._when > self.now else self._still
                self.now = max(self.now, timer._when)
                self._ready.append(timer)
                return
        raise RuntimeError("nothing is left to happen")

    def _check_closed(self) -> None:
        if not self.over:
            super()._check_closed()  # type: ignore[misc]

    def _write_to_self(self) -> None:
        """No other thread is there to wake this one."""

    def _process_events(self, event_list: object) -> None:
        """There are no sockets."""

    def run_in_executor(  # type: ignore[override]
        self, executor: SimExecutor, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        return executor.run(self, lambda: func(*args))

    def bury(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Let go of unfinished tasks when the simulation is over."""
        self.over = True
        for task in tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                if inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:  # type: ignore[arg-type]
                    task.get_coro().close()


class SimExecutor:
    """Stands in for the one disk thread of a process: work is done in order, each after a delay."""

    # How long the next piece of work waits for the disk, and how long its result takes.
    latency: Callable[[str, str], tuple[float, float]] = staticmethod(lambda *_: (0.0, 0.0))
    on_power_lost: Callable[[Process], None] = staticmethod(lambda _: None)

    def __init__(self, workers: int, thread_name_prefix: str = "") -> None:
        process = PROCESS.get()
        assert process is not None
        self._process = process
        self._name = thread_name_prefix
        self._free_at = 0.0
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    def run(self, loop: SimLoop, work: Callable[[], Any]) -> asyncio.Future[Any]:
        future = loop.create_future()
        before, after = self.latency(self._process.name, self._name)
        begin = max(loop.now, self._free_at) + before
        self._free_at = begin + after
        self._waiting.append((work, future))
        loop.call_at(begin, self._do_next, after, context=self._process.context)
        return future

    def _do_next(self, after: float) -> None:
        if not self._waiting:
            return
        work, future = self._waiting.pop(0)
        try:
            result, error = work(), None
        except PowerLost:
            self.on_power_lost(self._process)
            return
        except Exception as failure:  # noqa: BLE001 - handed to who asked
            result, error = None, failure
        self._process.later(after, _settle, future, result, error)

    def shutdown(self, wait: bool = True) -> None:
        """The process waits for its thread: what is queued is done now."""
        while self._waiting and not self._process.dead:
            self._do_next(0.0)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
