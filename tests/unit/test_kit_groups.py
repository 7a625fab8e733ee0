"""Groups of tasks: a failure is told as one, and nobody seems to be cancelled by it."""

from __future__ import annotations

import asyncio

import pytest

from swarmd.kit.groups import TaskGroup
from swarmd.kit.supervise import cancellations, caught, until


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError("on purpose")


async def failing_while_it_is_left() -> None:
    async with TaskGroup() as group:
        group.create_task(fails())
        group.create_task(asyncio.Event().wait())


async def failing_in_the_middle() -> None:
    async with TaskGroup() as group:
        group.create_task(fails())
        await asyncio.Event().wait()


@pytest.mark.parametrize("work", [failing_while_it_is_left, failing_in_the_middle])
async def test_a_failure_is_no_cancellation_of_who_waits(work: object) -> None:
    assert callable(work)
    error = await caught(work())
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(ValueError) is not None
    assert cancellations() == 0


@pytest.mark.parametrize("work", [failing_while_it_is_left, failing_in_the_middle])
async def test_a_group_in_a_group_ends_both(work: object) -> None:
    assert callable(work)

    async def watched() -> None:
        raise (await caught(work())) or AssertionError

    async def both() -> None:
        async with asyncio.timeout(60), TaskGroup() as group:
            group.create_task(watched())
            group.create_task(asyncio.Event().wait())

    with pytest.raises(ExceptionGroup):
        await both()


async def test_who_is_told_to_end_while_a_group_fails_is_told() -> None:
    begun = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            begun.set()
            await asyncio.sleep(0.01)

    async def work() -> None:
        async with TaskGroup() as group:
            group.create_task(fails())
            group.create_task(stubborn())

    seen: list[int] = []

    async def waits() -> None:
        try:
            await work()
        finally:
            seen.append(cancellations())

    task = asyncio.get_running_loop().create_task(waits())
    await begun.wait()
    task.cancel()
    await asyncio.wait((task,))
    assert seen == [1], "the one of the caller stays"


async def test_who_leaves_in_order_leaves_no_mark() -> None:
    async with TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
    assert cancellations() == 0
    assert await until(asyncio.sleep(0, "done"), asyncio.Event()) == "done"
