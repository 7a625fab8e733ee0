"""A leader's terms: loops start together and end together, a crash is loud, and the next term begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest
from structlog.testing import capture_logs

from swarmd.daemon.terms import RETERM, Terms
from swarmd.kit.supervise import Nursery
from swarmd.manager import term as term_module
from swarmd.manager.term import Term
from swarmd.model.errors import Refused, Unavailable
from swarmd.model.objects import Cluster, Node
from swarmd.store.raft.port import RaftStatus
from tests.unit.test_control_bed import Bed, ManualClock, eventually, settle


class Raft:
    """Says who leads, as a test wants it."""

    def __init__(self) -> None:
        self.leading = False
        self.transfers = 0
        self.changed = asyncio.Event()

    def lead(self, leading: bool) -> None:
        self.leading = leading
        self.changed.set()
        self.changed = asyncio.Event()

    def is_leader(self) -> bool:
        return self.leading

    def status(self) -> RaftStatus:
        return RaftStatus(
            role="leader", term=1, epoch=1, leader="m1", members={}, reachable=frozenset(), applied=0,
            has_quorum=True,
        )  # fmt: skip

    async def transfer(self, among: Collection[str] = ()) -> None:
        self.transfers += 1
        raise Refused("There is no other manager to give leadership to.")


class FakeTerm:
    """Runs until it is cancelled, or fails as a test says."""

    def __init__(self) -> None:
        self.running = self.ended = False
        self.fail: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        self.running = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._wait())
        finally:
            self.running = False

    async def _wait(self) -> None:
        async with asyncio.TaskGroup() as group:  # loops have groups of their own
            group.create_task(self._fail())

    async def _fail(self) -> None:
        await self.fail

    def end(self) -> None:
        self.ended = True


class Rig:
    """Terms over a Raft and a clock that a test moves; ``terms``: those that were begun."""

    def __init__(self) -> None:
        self.raft, self.clock = Raft(), ManualClock()
        self.made: list[FakeTerm] = []
        self.failures: list[BaseException] = []
        self.nursery = Nursery(lambda name, error: self.failures.append(error))
        self.terms = Terms(self.raft, self.clock, self.make, lambda: self.raft.changed, self.nursery)
        self.nursery.start("terms", self.terms.run())

    def make(self) -> Term:
        self.made.append(FakeTerm())
        return self.made[-1]  # type: ignore[return-value]

    async def lead(self) -> FakeTerm:
        self.raft.lead(True)
        await eventually(lambda: self.made and self.made[-1].running)
        return self.made[-1]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.nursery.close()
    assert rig.failures == []


async def test_a_term_lasts_as_long_as_leadership(rig: Rig) -> None:
    await settle()
    assert rig.made == []
    first = await rig.lead()
    assert rig.terms.current is first  # type: ignore[comparison-overlap]
    rig.raft.lead(True)
    await settle()
    assert len(rig.made) == 1, "members changed, the leader did not"
    rig.raft.lead(False)
    await eventually(lambda: first.ended)
    assert (first.running, rig.terms.current, rig.raft.transfers) == (False, None, 0)
    second = await rig.lead()
    assert second is not first


async def test_a_crash_ends_the_term_loudly_and_a_new_one_begins(rig: Rig) -> None:
    first = await rig.lead()
    with capture_logs() as logs:
        first.fail.set_exception(KeyError("a defect"))
        await eventually(lambda: first.ended)
        await settle()
    assert [line["log_level"] for line in logs if line["event"] == "term_crashed"] == ["error"]
    assert rig.raft.transfers == 1, "another manager may do better"
    assert len(rig.made) == 1, "not at once: a crash that comes back must not fill the processor"
    rig.clock.advance(RETERM)
    await eventually(lambda: len(rig.made) == 2 and rig.made[1].running)


async def test_a_term_that_was_cancelled_from_inside_has_crashed(rig: Rig) -> None:
    first = await rig.lead()
    first.fail.cancel()
    await eventually(lambda: first.ended)
    rig.clock.advance(RETERM)
    await settle()
    rig.clock.advance(RETERM)
    await eventually(lambda: len(rig.made) == 2 and rig.made[1].running)


async def test_a_store_that_cannot_be_changed_is_no_defect_and_its_reason_is_said(rig: Rig) -> None:
    first = await rig.lead()
    with capture_logs() as logs:
        first.fail.set_exception(Unavailable("the disk is full"))
        await eventually(lambda: first.ended)
        await settle()
    assert [line["reason"] for line in logs if line["event"] == "term_unavailable"] == ["the disk is full"]
    assert [line for line in logs if line["event"] == "term_crashed"] == []
    rig.clock.advance(RETERM)
    await eventually(lambda: len(rig.made) == 2)


async def test_a_store_that_cannot_be_changed_because_leadership_went_hands_nothing_on(rig: Rig) -> None:
    first = await rig.lead()
    rig.raft.leading = False
    first.fail.set_exception(Unavailable("not the leader"))
    await eventually(lambda: first.ended)
    await settle()
    assert rig.raft.transfers == 0


async def test_crash_after_crash_leaves_no_watchers_behind(rig: Rig) -> None:
    await rig.lead()
    for number in range(1, 6):
        rig.made[-1].fail.set_exception(KeyError("again"))
        await eventually(lambda number=number: len([one for one in rig.made if one.ended]) == number)  # type: ignore[misc]
        await settle()
        rig.clock.advance(RETERM)
        await eventually(lambda: rig.made[-1].running)
    watchers = [task for task in asyncio.all_tasks() if task.get_name() == "end of leadership"]
    assert len(watchers) == 1


# -- a real term ---------------------------------------------------------------------------------


class NoGroup:
    async def change_members(self, members: object, *, timeout: float = 20.0) -> None:
        raise AssertionError


async def a_real_term() -> Term:
    bed = Bed()
    await bed.put(Cluster(id="c1"), Node(id="m1", number=1))
    return Term(bed.store, NoGroup(), bed.clock, bed.new_id, members=dict, gossip=dict, managers=list)


@pytest.mark.parametrize("ends", ["returns", "is cancelled from inside", "fails"])
async def test_a_loop_that_ends_in_any_way_takes_the_term_with_it(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    class Loop:
        async def run(self) -> None:
            if ends == "is cancelled from inside":
                raise asyncio.CancelledError
            if ends == "fails":
                raise ValueError

    monkeypatch.setattr(term_module, "control_loops", lambda *_: {"mine": Loop()})
    term = await a_real_term()
    async with asyncio.timeout(60):
        with pytest.raises(ExceptionGroup) as caught:
            await term.run()
    assert len(caught.value.exceptions) == 1


async def test_a_real_term_runs_all_its_loops_until_it_is_cancelled() -> None:
    term = await a_real_term()
    nursery = Nursery(lambda name, error: failures.append(error))
    failures: list[BaseException] = []
    nursery.start("term", term.run())
    await settle()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert {"dispatcher", "roles", "services", "allocator", "scheduler", "enforcer", "reaper"} <= names
    await nursery.close()
    assert failures == []
