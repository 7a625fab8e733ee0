"""Background work with an owner.  The only place that makes asyncio tasks or catches everything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

Report = Callable[[str, BaseException], None]


class Nursery:
    """Tasks that live and die together: :meth:`close` cancels and awaits every one of them.

    A task that fails is given to ``report``; it does not take the others with it.  Where a failure
    must end everything (a leader's term) an :class:`asyncio.TaskGroup` is the right tool instead.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` until it ends or the nursery closes."""
        task = asyncio.get_running_loop().create_task(self._watched(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watched(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - this is the one net
            self._report(name, error)

    async def close(self) -> None:
        """Cancel what still runs and wait until all of it has ended."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """The result of ``work``; None, with the work cancelled and ended, when ``stop`` is set first."""
    loop = asyncio.get_running_loop()
    doing = loop.create_task(work)
    stopping = loop.create_task(stop.wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        return await doing if doing.done() else None
    finally:
        for task in (doing, stopping):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopping
        if not doing.done():
            await asyncio.wait((doing,))
