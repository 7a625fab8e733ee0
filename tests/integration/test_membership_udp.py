"""Gossip over real sockets on 127.0.0.1: no root needed, every wait is for the thing itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.membership.core.config import SwimConfig
from swarmd.node.membership.core.messages import MemberEvent
from swarmd.node.membership.shell import Gossip
from tests.own_time import OwnTime

pytestmark = pytest.mark.usefixtures("own_time")

KEY, OTHER_KEY = b"k" * 32, b"x" * 32
HOST, OTHER_HOST = "127.0.0.1", "127.0.0.2"
QUICK = SwimConfig(
    probe_interval=0.3,
    probe_timeout=0.15,
    suspicion_floor=0.8,
    gossip_interval=0.05,
    stall_tolerance=0.15,
    join_retry=0.1,
    rejoin_interval=0.5,
    sync_again=0.3,
)


class Cluster:
    """Gossips by name, the events each reported, and an orderly end."""

    def __init__(self) -> None:
        self.gossips: dict[str, Gossip] = {}
        self.events: dict[str, list[MemberEvent]] = {}
        self.changed = asyncio.Event()
        self._seed = 0

    async def add(
        self, name: str, *, keys: list[bytes] | None = None, seeds: tuple[str, ...] = (), host: str = HOST
    ) -> Gossip:
        self._seed += 1
        events = self.events.setdefault(name, [])

        def note(event: MemberEvent) -> None:
            events.append(event)
            self.changed.set()

        gossip = Gossip(
            name,
            (host, 0),
            (host, 0),
            keys or [KEY],
            SystemClock(),
            self._seed,
            note,
            config=QUICK,
        )
        await gossip.start()
        self.gossips[name] = gossip
        gossip.join([self.gossips[seed].address for seed in seeds])
        return gossip

    async def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def counted(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 - a counter tells nobody that it grew
                await asyncio.sleep(0.02)

    async def hears(self, name: str, more: int) -> None:
        goal = self.gossips[name].stats().received + more
        await self.counted(lambda: self.gossips[name].stats().received >= goal)

    def kinds(self, observer: str, about: str) -> list[str]:
        return [event.kind for event in self.events[observer] if event.id == about]

    def all_know(self, names: set[str]) -> bool:
        return all(
            {key for key, view in self.gossips[name].members().items() if view.state == "alive"} == names
            for name in names
        )


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    yield made
    for gossip in made.gossips.values():
        await gossip.stop()


async def test_five_members_meet_through_one_and_see_one_vanish(cluster: Cluster) -> None:
    names = {"a", "b", "c", "d", "e"}
    await cluster.add("a")
    for name in sorted(names - {"a"}):
        await cluster.add(name, seeds=("a",))
    await cluster.until(lambda: cluster.all_know(names))
    before = SystemClock().now()
    await cluster.gossips["e"].stop()
    rest = names - {"e"}
    await cluster.until(lambda: all(cluster.gossips[n].members()["e"].state == "dead" for n in rest))
    view = cluster.gossips["a"].members()["e"]
    assert view.address == cluster.gossips["e"].address
    assert before < view.since <= SystemClock().now()
    await cluster.until(lambda: all(cluster.kinds(n, "e") == ["up", "suspect", "dead"] for n in rest))
    assert all(cluster.kinds(n, other) == ["up"] for n in rest for other in rest - {n})


async def test_a_member_that_leaves_is_left_at_once(cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        await cluster.add(name, seeds=("a",))
    await cluster.until(lambda: cluster.all_know({"a", "b", "c"}))
    await cluster.gossips["c"].stop(leave=True)
    await cluster.until(lambda: all(cluster.kinds(name, "c") == ["up", "left"] for name in ("a", "b")))
    assert cluster.gossips["a"].members()["c"].state == "left"


async def test_a_restarted_member_is_up_again_at_its_new_address(cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        await cluster.add(name, seeds=("a",))
    await cluster.until(lambda: cluster.all_know({"a", "b", "c"}))
    old = cluster.gossips["c"].members()["c"]
    await cluster.gossips["c"].stop()
    await cluster.add("c", seeds=("a",), host=OTHER_HOST)
    await cluster.until(lambda: cluster.kinds("b", "c").count("up") == 2)
    new = cluster.gossips["b"].members()["c"]
    assert new.epoch > old.epoch
    assert new.address == cluster.gossips["c"].address != old.address


async def test_who_has_the_wrong_key_is_not_heard_and_hears_nothing(cluster: Cluster) -> None:
    await cluster.add("a")
    stranger = await cluster.add("stranger", keys=[OTHER_KEY], seeds=("a",))
    await cluster.add("b", seeds=("a",))
    await cluster.until(lambda: cluster.all_know({"a", "b"}))
    a = cluster.gossips["a"]
    await cluster.counted(lambda: a.stats().unsealed >= 3)
    assert set(a.members()) == {"a", "b"}
    assert set(stranger.members()) == {"stranger"}
    assert stranger.stats().received == 0
    stranger.set_keys([KEY])
    await cluster.until(lambda: cluster.all_know({"a", "b", "stranger"}))


async def test_keys_rotate_under_a_running_swarm_without_a_suspicion(cluster: Cluster) -> None:
    names = {"a", "b", "c"}
    for name in sorted(names):
        await cluster.add(name, seeds=("a",))
    await cluster.until(lambda: cluster.all_know(names))
    for ring in ([KEY, OTHER_KEY], [OTHER_KEY, KEY], [OTHER_KEY]):
        for name in sorted(names):
            cluster.gossips[name].set_keys(ring)
            await cluster.hears(name, 4)
    await cluster.add("d", keys=[OTHER_KEY], seeds=("a",))
    await cluster.until(lambda: cluster.all_know(names | {"d"}))
    assert all(event.kind == "up" for events in cluster.events.values() for event in events)


async def test_meta_is_told_and_garbage_is_counted(cluster: Cluster) -> None:
    for name in ("a", "b"):
        await cluster.add(name, seeds=("a",))
    await cluster.until(lambda: cluster.all_know({"a", "b"}))
    cluster.gossips["b"].set_meta(b"drain")
    await cluster.until(lambda: "changed" in cluster.kinds("a", "b"))
    assert cluster.gossips["a"].members()["b"].meta == b"drain"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"\x00" * 500, cluster.gossips["a"].address)
    await cluster.counted(lambda: cluster.gossips["a"].stats().garbage == 1)


async def test_a_machine_that_stands_still_accuses_nobody(own_time: OwnTime, cluster: Cluster) -> None:
    names = {"a", "b", "c"}
    for name in sorted(names):
        await cluster.add(name, seeds=("a",))
    await cluster.until(lambda: cluster.all_know(names))
    for name in sorted(names) * 4:
        gossip = cluster.gossips[name]
        before = gossip.stats().sent
        while gossip.stats().sent == before:  # noqa: ASYNC110
            await asyncio.sleep(0)
        own_time.stand_still(1.5)  # what it asked was not heard yet
        await cluster.hears(name, 2)
    assert all(event.kind == "up" for events in cluster.events.values() for event in events)


async def test_a_failing_callback_does_not_stop_the_gossip(cluster: Cluster) -> None:
    failures: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: failures.append(str(context["exception"]))
    )

    def fail(event: MemberEvent) -> None:
        cluster.changed.set()
        raise RuntimeError(f"cannot handle {event.id}")

    here = (HOST, 0)
    picky = Gossip("picky", here, here, [KEY], SystemClock(), 99, fail, config=QUICK)
    await picky.start()
    cluster.gossips["picky"] = picky
    await cluster.add("a", seeds=("picky",))
    await cluster.add("b", seeds=("picky",))
    await cluster.until(lambda: cluster.all_know({"a", "b", "picky"}))
    await cluster.until(lambda: len(failures) == 2)
    assert sorted(failures) == ["cannot handle a", "cannot handle b"]


async def test_a_taken_port_is_a_sentence(cluster: Cluster) -> None:
    a = await cluster.add("a")
    clash = Gossip("b", a.address, a.address, [KEY], SystemClock(), 1, lambda _: None)
    with pytest.raises(
        Unavailable, match=rf"cannot listen on 127.0.0.1 port {a.address[1]}/udp.*free the port"
    ):
        await clash.start()
    with pytest.raises(Unavailable, match="not running"):
        clash.join([a.address])
    with pytest.raises(Invalid, match="must have 32"):
        a.set_keys([b"short"])


async def test_no_tasks_or_sockets_are_left_after_the_stop(cluster: Cluster) -> None:
    before = asyncio.all_tasks()
    a = await cluster.add("a", host=OTHER_HOST)  # where nobody else takes the port that becomes free
    assert asyncio.all_tasks() > before
    await a.stop(leave=True)
    await a.stop()
    assert asyncio.all_tasks() == before
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(a.address)
