"""When leadership begins and ends: announced when the log is applied, over when the majority is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest

from swarmd.daemon.terms import Terms
from swarmd.kit.clock import SystemClock
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Unavailable
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.node import RaftNode
from tests.unit.test_raft_group import FAST, Group, until

pytestmark = pytest.mark.usefixtures("skipping_time")

SLACK = 0.6
"""Seconds: a few turns of the pump on a busy machine."""


@pytest.fixture
async def group(memory_path: Path) -> AsyncIterator[Group]:
    group = Group(memory_path)
    yield group
    for name in list(group.nodes):
        await group.kill(name)


class Acting:
    """A term that notes when it last acted."""

    def __init__(self) -> None:
        self.last = 0.0
        self.ended = False

    async def run(self) -> None:
        while True:
            self.last = SystemClock().monotonic()
            await asyncio.sleep(0.01)

    def end(self) -> None:
        self.ended = True


class Office:
    """The terms of one manager."""

    def __init__(self, node: RaftNode) -> None:
        self.made: list[Acting] = []
        self._changed = asyncio.Event()
        self._nursery = Nursery(lambda name, error: None)
        node.on_change(self._change)
        terms = Terms(node, SystemClock(), self._make, lambda: self._changed, self._nursery)
        self._nursery.start("terms", terms.run())

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _make(self) -> Any:
        self.made.append(Acting())
        return self.made[-1]

    async def close(self) -> None:
        await self._nursery.close()


async def test_a_term_does_nothing_more_once_the_majority_is_lost(group: Group) -> None:
    leader = await group.found("abc")
    office = Office(leader)
    await until(lambda: office.made and office.made[0].last)
    term = office.made[0]
    alone = group.name_of(leader)
    cut = SystemClock().monotonic()
    group.network.cut(alone, "abc".replace(alone, ""))
    await until(lambda: term.ended)
    assert term.last - cut < FAST.quorum_lost + SLACK
    assert not leader.is_leader()
    await office.close()


async def test_a_term_does_nothing_more_when_the_disk_stands_still_for_so_long(group: Group) -> None:
    go_on = threading.Event()
    go_on.set()

    class Standing(SystemDisk):
        def sync(self, fd: int) -> None:
            go_on.wait(120)
            super().sync(fd)

    leader = await group.found("abc", disk=Standing())
    office = Office(leader)
    await until(lambda: office.made and office.made[0].last)
    go_on.clear()
    began = SystemClock().monotonic()
    writing = asyncio.ensure_future(leader.propose(b"x"))
    try:
        await until(lambda: office.made[0].ended)
        assert office.made[0].last - began < FAST.quorum_lost + FAST.status + SLACK
    finally:
        go_on.set()
    await asyncio.wait([writing])
    await office.close()


async def test_leadership_is_announced_only_when_everything_before_it_is_applied(group: Group) -> None:
    first = await group.found("abc")
    for number in range(200):
        await first.propose(str(number).encode())
    await group.kill(group.name_of(first))
    announced: list[int] = []

    def watch(name: str, node: RaftNode) -> None:
        node.on_change(lambda: node.is_leader() and announced.append(len(group.machines[name].commands)))

    for name, node in group.nodes.items():
        watch(name, node)
    await until(lambda: announced)
    assert announced[0] == 200


async def test_leadership_goes_to_the_one_that_was_named(group: Group) -> None:
    await group.found("abcde")
    for wanted in "ceb":
        leader = await group.led()
        if group.name_of(leader) != wanted:
            await leader.transfer(among=[wanted])
        await until(lambda: group.nodes[wanted].is_leader())  # noqa: B023 - awaited in this turn


async def test_leadership_is_kept_when_none_of_those_named_can_be_reached(group: Group) -> None:
    leader = await group.found("abc")
    other, third = "abc".replace(group.name_of(leader), "")
    await group.kill(other)
    await until(lambda: other not in leader._member.links)
    with pytest.raises(Unavailable):
        await leader.transfer(among=[other, "stranger"])
    assert leader.is_leader()
    named: Collection[str] = [other, third]
    await leader.transfer(among=named)
    await until(lambda: group.nodes[third].is_leader())
