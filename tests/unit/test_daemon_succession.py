"""A manager that is being drained gives leadership away, to one that is not, and does not press for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import pytest

from swarmd.daemon.succession import AGAIN, LOOK, Succession
from swarmd.kit.supervise import Nursery
from swarmd.model.objects import Node
from swarmd.model.replace import replace
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Availability, Role
from swarmd.store.raft.port import RaftStatus
from tests.unit.test_control_bed import Bed, settle

MEMBERS = {f"m{number}": f"10.0.0.{number}:2377" for number in (1, 2, 3)}


class Rig(Bed):
    """m1 of three managers; it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.leads = True
        self.succeeds = True
        self.reachable = {"m1", "m2", "m3"}
        self.short: set[str] = set()
        self.apart: set[str] = set()
        self.handed: list[list[str]] = []
        self.failures: list[BaseException] = []
        self.nursery = Nursery(lambda name, error: self.failures.append(error))
        self.succession = Succession("m1", self.store, self, self.clock, self.hand_on, self.clock.sleep)

    async def start(self) -> None:
        await self.put(
            *(Node(id=name, number=int(name[1]), spec=NodeSpec(role=Role.MANAGER)) for name in MEMBERS)
        )
        self.nursery.start("succession", self.succession.run())
        await settle()

    def is_leader(self) -> bool:
        return self.leads

    def status(self) -> RaftStatus:
        return RaftStatus(
            role="leader", term=1, epoch=1, leader="m1", members=dict(MEMBERS),
            reachable=frozenset(self.reachable), applied=0, has_quorum=True, short=frozenset(self.short),
            apart=frozenset(self.apart),
        )  # fmt: skip

    async def hand_on(self, among: Collection[str]) -> bool:
        self.handed.append(list(among))
        self.leads = not self.succeeds
        return self.succeeds

    async def set(self, name: str, availability: Availability) -> None:
        node = self.store.get(Node, name)
        assert node is not None
        await self.put(replace(node, spec=replace(node.spec, availability=availability)))

    async def look(self, seconds: float = LOOK) -> None:
        self.clock.advance(seconds)
        await settle()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.start()
    yield rig
    await rig.nursery.close()
    assert rig.failures == []


async def test_a_drained_leader_hands_on_to_those_that_are_reachable_and_not_drained(rig: Rig) -> None:
    await rig.look()
    assert rig.handed == []
    rig.reachable = {"m1", "m2"}
    await rig.set("m1", Availability.DRAIN)
    await rig.look()
    assert rig.handed == [["m2"]]


async def test_when_every_other_is_drained_or_gone_it_leads_on(rig: Rig) -> None:
    for name in ("m1", "m2"):
        await rig.set(name, Availability.DRAIN)
    rig.reachable = {"m1", "m2"}
    await rig.look()
    assert rig.handed == []
    rig.reachable = set(MEMBERS)
    await rig.look()
    assert rig.handed == [["m3"]]


async def test_one_that_does_not_lead_has_nothing_to_give(rig: Rig) -> None:
    rig.leads = False
    await rig.set("m1", Availability.DRAIN)
    await rig.look()
    assert rig.handed == []


async def test_a_pause_gives_nothing_away(rig: Rig) -> None:
    await rig.set("m1", Availability.PAUSE)
    await rig.look()
    assert rig.handed == []


async def test_a_hand_over_that_failed_is_not_pressed_for(rig: Rig) -> None:
    rig.succeeds = False
    await rig.set("m1", Availability.DRAIN)
    await rig.look()
    for _ in range(int(AGAIN / LOOK) - 2):
        await rig.look()
    assert len(rig.handed) == 1
    await rig.look(AGAIN)
    await rig.look()
    assert len(rig.handed) == 2


async def test_a_leader_whose_disk_is_nearly_full_hands_on_to_one_with_room(rig: Rig) -> None:
    rig.short = {"m1", "m2"}
    await rig.look()
    assert rig.handed == [["m3"]]
    assert rig.failures == []


async def test_a_leader_keeps_leading_when_no_other_has_room(rig: Rig) -> None:
    rig.short = {"m1", "m2", "m3"}
    await rig.look()
    assert rig.handed == []


async def test_a_leader_with_room_keeps_leading_whoever_has_none(rig: Rig) -> None:
    rig.short = {"m2", "m3"}
    await rig.look()
    assert rig.handed == []


async def test_a_drained_leader_prefers_one_with_room_and_takes_one_without(rig: Rig) -> None:
    rig.short, rig.succeeds = {"m2"}, False
    await rig.set("m1", Availability.DRAIN)
    await rig.look()
    rig.short = {"m2", "m3"}
    await rig.look(AGAIN)
    await rig.look()
    assert rig.handed == [["m3"], ["m2", "m3"]]


async def test_a_leader_whose_clock_is_wrong_hands_on_to_one_whose_clock_is_right(rig: Rig) -> None:
    rig.apart = {"m1", "m2"}
    await rig.look()
    assert rig.handed == [["m3"]]
