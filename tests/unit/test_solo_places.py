"""Single containers in networks, on their node: what managers are asked, and what if they do not answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, cast

import pytest

from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Conflict, Invalid, NotFound, Refused, SwarmError, Unavailable
from swarmd.model.network import ContainerNetwork, NetworkAttachment
from swarmd.model.replace import replace
from swarmd.node.solo.core import networks
from swarmd.node.solo.core.record import Joined, Record
from swarmd.node.solo.managers import Keep, Nobody
from swarmd.node.solo.places import AGAIN, Held, Places
from tests.unit.test_control_bed import ManualClock, eventually, settle
from tests.unit.test_solo import a_record

NO_LEADER = Unavailable("no manager can be reached at the moment")


class FakeManagers:
    """Gives 10.0.0.N in the order of asking; ``trouble`` is raised for a network, or for all ("").

    ``stale``: what a report is answered, beside those whose addresses are others than the ones given last.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.trouble: dict[str, SwarmError] = {}
        self.stale: Collection[str] = ()
        self.reported: list[tuple[str, bool, tuple[str, ...]]] = []
        self._rows: dict[str, tuple[str, ...]] = {}
        self._given = 1

    async def attach(self, record: Record, keep: Keep, *, up: bool, patience: float = 10.0) -> None:
        wanted = networks.wanted(record)
        said = ",".join(f"{one.target}{list(one.addresses) or ''}" for one in wanted)
        self.log.append(f"{record.name}: {said or '-'}{' up' if up else ''}")
        for name in ("", *(one.target for one in wanted)):
            error = self.trouble.get(name)
            if error is not None and not (isinstance(error, Conflict) and _asks_nothing(wanted, name)):
                raise error
        got = [self._network(one) for one in wanted]
        self._rows[record.id] = tuple(address for one in got for address in one.addresses)
        keep(networks.answered(record, got, [one.name for one in record.networks]))

    def _network(self, one: NetworkAttachment) -> ContainerNetwork:
        if not one.addresses:
            self._given += 1
        addresses = one.addresses or (f"10.0.0.{self._given}",)
        return ContainerNetwork(network_id=one.target, addresses=addresses, aliases=one.aliases)

    async def report(self, reported: Callable[[], Iterable[tuple[Record, bool]]]) -> Collection[str]:
        if "" in self.trouble:
            raise self.trouble[""]
        found = {record.id: networks.addresses(record) for record, _ in reported()}
        self.reported = [(record.name, up, networks.addresses(record)) for record, up in reported()]
        return {*self.stale, *(one for one, had in self._rows.items() if found.get(one, had) != had)}


def _asks_nothing(wanted: list[NetworkAttachment], name: str) -> bool:
    return all(not one.addresses for one in wanted if one.target == name)


class FakeMaker:
    def __init__(self) -> None:
        self.renewed: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.trouble: SwarmError | None = None

    async def renew(self, before: Record, after: Record) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.renewed.append((networks.addresses(before), networks.addresses(after)))


class Rig:
    def __init__(self) -> None:
        self.managers, self.maker, self.clock = FakeManagers(), FakeMaker(), ManualClock()
        self.all: list[Held] = []
        self.places = Places(
            self.managers,
            cast("Any", self.maker),
            self.clock,
            held=lambda: self.all,
            save=self._save,
            lives=lambda container_id: True,
        )

    def hold(self, name: str, *joined: Joined, up: bool = False) -> Held:
        held = Held(a_record(name, networks=joined))
        held.up = up
        self.all.append(held)
        return held

    def _save(self, held: Held, joined: tuple[Joined, ...]) -> None:
        held.record = replace(held.record, networks=joined)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def settled(name: str, address: str) -> Joined:
    return Joined(name=name, id=name, addresses=(address,))


def addresses(held: Held) -> tuple[str, ...]:
    return networks.addresses(held.record)


# -- before it starts, and after its end -----------------------------------------------------------


async def test_one_that_starts_gets_its_addresses_and_keeps_them_at_rest(rig: Rig) -> None:
    box = rig.hold("box", Joined(name="blue", aliases=("b",)), Joined(name="red", asked=("10.6.0.9",)))
    await rig.places.take(box)
    assert addresses(box) == ("10.0.0.2", "10.6.0.9")
    await rig.places.take(box)
    await rig.places.rest(box)
    await rig.places.take(box)
    assert rig.managers.log == [
        "box: blue,red['10.6.0.9'] up",
        "box: blue['10.0.0.2'],red['10.6.0.9']",
        "box: blue['10.0.0.2'],red['10.6.0.9'] up",
    ], "while it is there, nothing is said twice"
    assert addresses(box) == ("10.0.0.2", "10.6.0.9")


async def test_one_in_no_network_asks_nobody(rig: Rig) -> None:
    box = rig.hold("box")
    await rig.places.take(box)
    await rig.places.rest(box)
    await rig.places.leave(box)
    assert rig.managers.log == []


async def test_without_a_leader_only_one_that_has_its_addresses_starts(rig: Rig) -> None:
    rig.managers.trouble[""] = NO_LEADER
    new, old = rig.hold("new", Joined(name="blue")), rig.hold("old", settled("blue", "10.0.0.9"))
    with pytest.raises(Unavailable, match="no manager can be reached"):
        await rig.places.take(new)
    await rig.places.take(old)
    assert (new.up, old.up) == (False, True)


async def test_what_is_refused_is_not_up(rig: Rig) -> None:
    rig.managers.trouble["blue"] = Refused("network blue not manually attachable")
    box = rig.hold("box", Joined(name="blue"))
    with pytest.raises(Refused, match="not manually attachable"):
        await rig.places.take(box)
    assert not box.up


async def test_a_node_in_no_swarm_says_so() -> None:
    with pytest.raises(Refused, match="this node is in no swarm, so there is no network blue"):
        await Nobody().attach(a_record(networks=(Joined(name="blue"),)), lambda joined: None, up=True)


# -- while it runs ---------------------------------------------------------------------------------


async def test_it_joins_and_leaves_while_it_runs(rig: Rig) -> None:
    box = rig.hold("box", settled("blue", "10.0.0.9"), up=True)
    await rig.places.connect(box, Joined(name="red"))
    await rig.places.disconnect(box, "blue")
    assert rig.maker.renewed == [
        (("10.0.0.9",), ("10.0.0.9", "10.0.0.2")),
        (("10.0.0.9", "10.0.0.2"), ("10.0.0.2",)),
    ]
    assert rig.managers.log[-1] == "box: red['10.0.0.2'] up"


async def test_one_that_cannot_be_connected_is_as_it_was(rig: Rig) -> None:
    box = rig.hold("box", settled("blue", "10.0.0.9"), up=True)
    rig.maker.trouble = Unavailable("this node was not told of network red")
    with pytest.raises(Unavailable, match="not told of network red"):
        await rig.places.connect(box, Joined(name="red"))
    assert addresses(box) == ("10.0.0.9",)
    assert rig.managers.log[-1] == "box: blue['10.0.0.9'] up", "what it was given is given back"


async def test_it_leaves_without_a_leader_and_the_leader_hears_of_it_later(rig: Rig) -> None:
    nursery = Nursery(lambda name, error: None)
    nursery.start("report", rig.places.run())
    box = rig.hold("box", settled("blue", "10.0.0.9"), settled("red", "10.0.1.9"), up=True)
    rig.managers.trouble[""] = NO_LEADER
    await rig.places.disconnect(box, "blue")
    assert addresses(box) == ("10.0.1.9",)
    await settle()
    assert rig.managers.reported == []
    del rig.managers.trouble[""]
    rig.clock.advance(AGAIN)
    await eventually(lambda: rig.managers.reported == [("box", True, ("10.0.1.9",))])
    await nursery.close()


# -- what a manager knows otherwise -----------------------------------------------------------------


async def reported(rig: Rig, *stale: str) -> None:
    """One report, after which the manager wants these attached again."""
    rig.managers.stale, rig.managers.reported = stale, []
    nursery = Nursery(lambda name, error: None)
    nursery.start("report", rig.places.run())
    rig.places.report()
    await eventually(lambda: rig.managers.reported)
    await settle()
    await nursery.close()


async def test_what_a_manager_does_not_know_is_attached_again_with_its_address(rig: Rig) -> None:
    box = rig.hold("box", settled("blue", "10.0.0.9"), up=True)
    rig.hold("other", settled("blue", "10.0.0.8"))
    await reported(rig, "id-box")
    assert rig.managers.reported == [("box", True, ("10.0.0.9",)), ("other", False, ("10.0.0.8",))]
    assert rig.managers.log == ["box: blue['10.0.0.9'] up"]
    assert (addresses(box), rig.maker.renewed) == (("10.0.0.9",), [])


async def test_an_address_that_somebody_else_has_got_becomes_another(rig: Rig) -> None:
    box = rig.hold("box", settled("red", "10.0.1.9"), settled("blue", "10.0.0.9"), up=True)
    rig.managers.trouble["blue"] = Conflict("address 10.0.0.9 of network blue is still that of task t")
    await reported(rig, "id-box")
    assert set(addresses(box)) == {"10.0.1.9", "10.0.0.2"}
    assert [after for _, after in rig.maker.renewed] == [addresses(box)], "also where it runs"


async def test_a_network_that_is_gone_is_left_and_the_others_are_kept(rig: Rig) -> None:
    box = rig.hold("box", settled("gone", "10.0.1.9"), settled("blue", "10.0.0.9"), up=True)
    rig.managers.trouble["gone"] = NotFound("network gone not found")
    await reported(rig, "id-box")
    assert addresses(box) == ("10.0.0.9",)
    assert {one.name for one in box.record.networks} == {"gone", "blue"}, "its next start says what is wrong"


async def test_one_that_cannot_be_put_right_keeps_no_other_waiting(rig: Rig) -> None:
    box = rig.hold("box", settled("blue", "10.0.0.9"), up=True)
    other = rig.hold("other", settled("red", "10.0.1.9"), up=True)
    rig.managers.trouble["blue"] = Conflict("address 10.0.0.9 of network blue is still that of task t")
    rig.maker.trouble = Refused("network blue clashes with a route of this node")
    await reported(rig, "id-box", "id-other")
    assert rig.managers.log[-1] == "other: red['10.0.1.9'] up"
    assert (addresses(box), addresses(other)) == (("10.0.0.2",), ("10.0.1.9",))


async def test_one_that_could_not_be_moved_to_its_new_address_yet_is_moved_later(rig: Rig) -> None:
    box = rig.hold("box", settled("blue", "10.0.0.9"), up=True)
    rig.managers.trouble["blue"] = Conflict("address 10.0.0.9 of network blue is still that of task t")
    rig.maker.trouble = Unavailable("this node was not told of network blue")
    rig.managers.stale = ("id-box",)
    nursery = Nursery(lambda name, error: None)
    nursery.start("report", rig.places.run())
    rig.places.report()
    await eventually(lambda: rig.managers.reported)
    await settle()
    rig.managers.stale, rig.maker.trouble = (), None
    rig.clock.advance(AGAIN)
    await eventually(lambda: rig.maker.renewed)
    assert [after for _, after in rig.maker.renewed] == [addresses(box)]
    assert addresses(box) != ("10.0.0.9",)
    await nursery.close()


# -- what can never be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "name", "words"),
    [
        ("", "blue", "endpoint with name box already exists in network blue"),
        ("", "host", "cannot connect container to host network"),
        ("", "bridge", "has its address of its node"),
        ("host", "red", "sharing network namespace with another container or host"),
        ("none", "red", r"in private \(none\) mode"),
    ],
)
def test_what_cannot_be_joined(mode: str, name: str, words: str) -> None:
    joined = () if mode else (settled("blue", "10.0.0.9"),)
    with pytest.raises(Refused, match=words):
        networks.joining(a_record("box", network=mode, networks=joined), Joined(name=name))


def test_what_cannot_be_left() -> None:
    with pytest.raises(Invalid, match="container id-box is not connected to network red"):
        networks.leaving(a_record("box", networks=(settled("blue", "10.0.0.9"),)), "red")
    with pytest.raises(Refused, match="cannot be disconnected from host network"):
        networks.leaving(a_record("box", network="host"), "host")


def test_it_is_known_by_its_name_its_host_name_and_its_id_in_networks_alone() -> None:
    record = a_record("box", networks=(settled("blue", "10.0.0.9"), Joined(name="red")))
    place = networks.place(record, 7)
    assert (place.networks, place.names) == ((("blue", ("10.0.0.9",)),), ("box", "id-box"))
    assert networks.place(a_record("box"), 7).names == ()
