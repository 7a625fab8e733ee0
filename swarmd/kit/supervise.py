"""Background work with an owner.  The only place that makes asyncio tasks or catches everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

Report = Callable[[str, BaseException], None]


class Interrupted(RuntimeError):
    """Work was cancelled by something inside it (a closed channel, say), not by who waits for it."""


class Nursery:
    """Tasks that live and die together: :meth:`close` cancels and awaits every one of them.

    A task that fails is given to ``report``; it does not take the others with it.  Where a failure
    must end everything (a leader's term) an :class:`swarmd.kit.groups.TaskGroup` is the right tool instead.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` until it ends or the nursery closes."""
        task = asyncio.get_running_loop().create_task(self._watched(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task cancelled before its first step never gets to the work, which nobody would await then.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _watched(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        error = await caught(work)
        if error is not None:
            self._report(name, error)

    async def close(self) -> None:
        """Cancel what still runs, and what that starts in ending, and wait until all of it has ended."""
        while tasks := self._tasks - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._tasks -= tasks


def cancellations() -> int:
    """How many times somebody asked the current task to end.

    At zero, a CancelledError is some library's own.  A count that grew while an await ended in another
    way means that a library lost the cancellation (grpc.aio does, in a call that fails at that moment).
    """
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


async def caught(work: Coroutine[Any, Any, object]) -> Exception | None:
    """What ``work`` failed with; None when it ended well.

    The caller's own cancellation passes through, also when the work lost it; a CancelledError from inside
    comes as Interrupted.
    """
    before = cancellations()
    error = await _caught(work)
    if cancellations() > before:
        raise asyncio.CancelledError from error
    return error


def failure(work: Callable[[], object]) -> Exception | None:
    """What a piece of work that waits for nothing failed with; None when it ended well."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - the same net, for what is no coroutine
        return error
    return None


async def _caught(work: Coroutine[Any, Any, object]) -> Exception | None:
    try:
        await work
    except asyncio.CancelledError as error:
        if cancellations():
            raise
        interrupted = Interrupted("the work was cancelled from inside")
        interrupted.__cause__ = error
        return interrupted
    except Exception as error:  # noqa: BLE001 - this is the one net
        return error
    return None


async def until(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """The result of ``work``; None, with the work cancelled and ended, when ``stop`` is set first.

    What the work raises is raised, also while it is being cancelled.  Work that ends well in spite of
    ``stop`` gives its result.  When the caller is cancelled the work has ended before this does.
    """
    if stop.is_set():
        work.close()
        return None
    loop = asyncio.get_running_loop()
    doing, stopping = loop.create_task(work), loop.create_task(stop.wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        asked = not doing.done() and doing.cancel()
        stopping.cancel()
        await asyncio.wait((doing, stopping))
    except asyncio.CancelledError:
        doing.cancel()
        stopping.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
        raise
    if doing.cancelled():
        if asked:
            return None
        raise Interrupted("the work was cancelled from inside")
    return doing.result()


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which goes on to its end when the caller is cancelled; that is raised then.

    A thread cannot be stopped, and whoever holds a lock over one must not let it go before the thread ends.
    """
    doing = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait((doing,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not doing.cancelled():
            doing.exception()  # nobody is left to be told
        raise cancelled
    if doing.cancelled():
        raise Interrupted("the work was cancelled from inside")
    return doing.result()


async def race(*works: Coroutine[Any, Any, T]) -> T:
    """The result of the first to end, with the others cancelled and ended; raises what that one raised.

    When the caller is cancelled all have ended before this does.
    """
    tasks = [asyncio.get_running_loop().create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    first = next(task for task in tasks if task in done)
    if first.cancelled():
        raise Interrupted("the work was cancelled from inside")
    return first.result()


async def together(*works: Coroutine[Any, Any, T]) -> list[T]:
    """The results of all; the first failure ends the others, and is raised as it is.

    When the caller is cancelled all have ended before this does.  A TaskGroup would cancel the caller for a
    moment to tell it of a failure, which counts in :func:`cancellations` ever after (CPython 3.11).
    """
    tasks = [asyncio.get_running_loop().create_task(work) for work in works]
    if not tasks:
        return []
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done and task.cancelled():
            raise Interrupted("the work was cancelled from inside")
        error = task.exception() if task in done else None
        if error is not None:
            raise error
    return [task.result() for task in tasks]
