"""Background work has an owner: it is cancelled, awaited and reported, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from swarmd.kit.supervise import Interrupted, Nursery, caught, until


class Work:
    """Something to wait for; remembers how it ended."""

    def __init__(self, *, at_cancel: Exception | None = None, in_spite: str = "") -> None:
        self.started = asyncio.Event()
        self.finish = asyncio.Event()
        self.ended = ""
        self._at_cancel = at_cancel
        self._in_spite = in_spite

    async def run(self) -> str:
        self.started.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # cleaning up takes a while
            self.ended = "cancelled"
            if self._at_cancel is not None:
                raise self._at_cancel from None
            if self._in_spite:
                return self._in_spite
            raise
        self.ended = "done"
        return "result"


async def raising(error: BaseException) -> None:
    raise error


async def test_until_gives_the_result_of_work_that_ends_first() -> None:
    work = Work()
    work.finish.set()
    assert await until(work.run(), asyncio.Event()) == "result"


async def test_until_gives_none_when_it_is_stopped_and_the_work_has_ended_then() -> None:
    work, stop = Work(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(until(work.run(), stop))
        await work.started.wait()
        stop.set()
    assert waiting.result() is None
    assert work.ended == "cancelled"


async def test_until_does_not_begin_what_is_stopped_already() -> None:
    work, stop = Work(), asyncio.Event()
    stop.set()
    gc.collect()  # what earlier tests left
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert await until(work.run(), stop) is None
        gc.collect()
    assert [str(warning.message) for warning in seen] == []
    assert not work.started.is_set()


async def test_until_cancelled_from_outside_cancels_and_awaits_the_work() -> None:
    work = Work()
    waiting = asyncio.create_task(until(work.run(), asyncio.Event()))
    await work.started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.ended == "cancelled"


async def test_until_cancelled_while_the_stopped_work_still_cleans_up_awaits_it() -> None:
    work, stop = Work(), asyncio.Event()
    waiting = asyncio.create_task(until(work.run(), stop))
    await work.started.wait()
    stop.set()
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.ended == "cancelled"


async def test_until_raises_what_the_work_raises() -> None:
    with pytest.raises(ValueError, match="a bug"):
        await until(raising(ValueError("a bug")), asyncio.Event())


@pytest.mark.parametrize("spite", [True, False])
async def test_until_hides_neither_an_error_nor_a_result_of_work_that_was_stopped(spite: bool) -> None:
    stop = asyncio.Event()
    work = Work(in_spite="in time") if spite else Work(at_cancel=ValueError("while cleaning up"))
    waiting = asyncio.create_task(until(work.run(), stop))
    await work.started.wait()
    stop.set()
    if spite:
        assert await waiting == "in time"
    else:
        with pytest.raises(ValueError, match="while cleaning up"):
            await waiting


async def test_until_does_not_pass_off_a_cancellation_from_inside_as_the_callers() -> None:
    with pytest.raises(Interrupted):
        await until(raising(asyncio.CancelledError()), asyncio.Event())


async def test_caught_answers_the_error_and_lets_the_callers_cancellation_through() -> None:
    error = ValueError("a bug")
    assert await caught(raising(error)) is error
    assert await caught(asyncio.sleep(0)) is None
    assert isinstance(await caught(raising(asyncio.CancelledError())), Interrupted)
    work = Work()
    waiting = asyncio.create_task(caught(work.run()))
    await work.started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_nursery_reports_what_fails_and_lets_the_others_live() -> None:
    reports: list[tuple[str, BaseException]] = []
    nursery = Nursery(lambda name, error: reports.append((name, error)))
    work, error = Work(), ValueError("a bug")
    running = nursery.start("good", work.run())
    await nursery.start("bad", raising(error))
    assert reports == [("bad", error)]
    assert not running.done()
    await nursery.close()
    assert work.ended == "cancelled"
    assert reports == [("bad", error)]


async def test_a_nursery_closed_before_a_first_step_leaves_no_coroutine_unawaited() -> None:
    nursery, work = Nursery(lambda name, error: None), Work()
    gc.collect()  # what earlier tests left
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        nursery.start("never begun", work.run())
        await nursery.close()
        gc.collect()
    assert [str(warning.message) for warning in seen] == []
    assert not work.started.is_set()


async def test_closing_a_nursery_also_ends_what_its_tasks_start_in_ending() -> None:
    nursery, last = Nursery(lambda name, error: None), Work()

    async def dying() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            nursery.start("last words", last.run())
            await last.started.wait()

    nursery.start("dying", dying())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await nursery.close()
    assert last.ended == "cancelled"


async def test_a_task_may_close_its_own_nursery() -> None:
    nursery, other = Nursery(lambda name, error: None), Work()
    nursery.start("other", other.run())
    await other.started.wait()
    async with asyncio.timeout(60):
        await nursery.start("closing", nursery.close())
    assert other.ended == "cancelled"


async def test_who_waits_for_a_nursery_to_close_can_still_be_cancelled() -> None:
    nursery = Nursery(lambda name, error: None)
    stubborn = asyncio.Event()

    async def deaf() -> None:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                continue

    nursery.start("deaf", deaf())
    await asyncio.sleep(0)
    closing = asyncio.create_task(nursery.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    stubborn.set()
    await nursery.close()


async def test_a_cancellation_that_the_work_loses_is_not_lost() -> None:
    failing = Work(at_cancel=OSError("the disk went at that moment"))
    heedless = Work(in_spite="a result in spite of it")
    for work in (failing, heedless):
        task = asyncio.get_running_loop().create_task(caught(work.run()))
        await work.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_clean_up_after_a_cancellation_may_fail_and_its_failure_is_seen() -> None:
    work, seen = Work(), []

    async def ending() -> None:
        try:
            await work.run()
        finally:
            seen.append(await caught(raising(OSError("disk full"))))

    task = asyncio.get_running_loop().create_task(ending())
    await work.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [str(error) for error in seen] == ["disk full"]
