"""Logs of a service: lines of all its tasks, sentences about those that cannot be had, an end that comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from swarmd.control.logs import Line, LogItem, LogOptions, Logs
from swarmd.model.errors import NotFound, Unavailable
from swarmd.model.objects import Node, NodeDescription, Service
from swarmd.model.states import TaskState
from tests.unit.test_control_bed import Bed, a_spec, a_task, settle


class Printing(Bed):
    """Tasks that print what a test says, on nodes that may be unreachable."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, list[bytes]] = {}
        self.failing: dict[str, Exception] = {}
        self.endless: set[str] = set()
        self.closed: list[str] = []
        self.reported: list[str] = []
        self.logs = Logs(self.store, self.read, lambda name, error: self.reported.append(name))

    async def read(self, node: Node, task_id: str, options: LogOptions) -> AsyncIterator[Line]:
        try:
            for data in self.lines.get(task_id, []):
                yield Line(at=1.0, stderr=False, data=data)
            if task_id in self.failing:
                raise self.failing[task_id]
            if task_id in self.endless:
                await asyncio.Event().wait()
        finally:
            self.closed.append(task_id)


@pytest.fixture
async def bed() -> Printing:
    bed = Printing()
    await bed.put(Service(id="s1", spec=a_spec()), Node(id="n1", description=NodeDescription(hostname="one")))
    return bed


async def everything(bed: Printing, ref: str, *, follow: bool = False) -> list[LogItem]:
    async with asyncio.timeout(60):
        return [item async for item in bed.logs.stream(ref, LogOptions(follow=follow))]


def said(items: list[LogItem]) -> list[tuple[str, bytes]]:
    return sorted((item.task.id, item.line.data) for item in items if item.line is not None)


async def test_all_tasks_of_a_service_are_read_ended_ones_too(bed: Printing) -> None:
    await bed.put(
        a_task("t1", "n1"), a_task("t2", "n1", TaskState.FAILED), a_task("t3", "n1", TaskState.READY)
    )
    bed.lines = {"t1": [b"a", b"b"], "t2": [b"c"], "t3": [b"never started"]}
    assert said(await everything(bed, "web")) == [("t1", b"a"), ("t1", b"b"), ("t2", b"c")]
    assert said(await everything(bed, "t2")) == [("t2", b"c")]


async def test_a_node_that_cannot_be_asked_is_a_sentence_among_the_lines(bed: Printing) -> None:
    await bed.put(a_task("t1", "n1"), a_task("t2", "gone", slot=2), a_task("t3", "n1", slot=3))
    bed.failing["t1"] = Unavailable("no route")
    bed.lines["t3"] = [b"fine"]
    items = await everything(bed, "web")
    assert said(items) == [("t3", b"fine")]
    assert sorted(item.warning for item in items if item.warning) == [
        "logs of task web.1 on node one: no route",
        "logs of task web.2 on node gone: node gone is no longer part of the swarm",
    ]


async def test_a_defect_in_one_stream_ends_it_and_not_the_command(bed: Printing) -> None:
    await bed.put(a_task("t1", "n1"), a_task("t2", "n1", slot=2))
    bed.failing["t1"] = RuntimeError("a defect")
    bed.lines["t2"] = [b"fine"]
    items = await everything(bed, "web")
    assert said(items) == [("t2", b"fine")]
    assert [item.warning for item in items if item.warning] == ["logs of task web.1 on node one: a defect"]
    assert bed.reported == ["logs of t1"]


async def test_following_a_service_without_tasks_waits_for_its_first(bed: Printing) -> None:
    bed.lines["t1"] = [b"hello"]
    stream = bed.logs.stream("web", LogOptions(follow=True))
    async with asyncio.timeout(60):
        first = asyncio.ensure_future(anext(stream))
        await settle()
        assert not first.done()
        await bed.put(a_task("t1", "n1"), a_task("other", "n1", service_id="s2"))
        item = await first
        assert item.line is not None
        assert (item.task.id, item.line.data) == ("t1", b"hello")
        await stream.aclose()


async def test_following_one_task_ends_with_it_and_never_shows_its_siblings(bed: Printing) -> None:
    await bed.put(a_task("task1", "n1"), a_task("other", "n1"))
    bed.lines = {"task1": [b"mine"], "other": [b"not mine"]}
    for ref in ("task1", "tas"):
        assert said(await everything(bed, ref, follow=True)) == [("task1", b"mine")]


async def test_who_stops_reading_leaves_no_stream_behind(bed: Printing) -> None:
    await bed.put(a_task("t1", "n1"))
    bed.lines["t1"] = [b"%d" % n for n in range(5000)]
    bed.endless.add("t1")
    stream = bed.logs.stream("web", LogOptions(follow=True))
    async with asyncio.timeout(60):
        await anext(stream)
        await stream.aclose()
    await settle()
    assert bed.closed == ["t1"]


async def test_neither_a_service_nor_a_task_is_said_so(bed: Printing) -> None:
    with pytest.raises(NotFound, match="no such task or service: nosuch"):
        await everything(bed, "nosuch")
