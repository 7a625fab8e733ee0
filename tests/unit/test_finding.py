"""Where a container is that somebody names: here first, then where a manager knows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from swarmd.api.containers import Elsewhere
from swarmd.daemon.finding import Finder
from swarmd.model.errors import NotFound, Refused, Unavailable
from swarmd.model.objects import Node, NodeDescription, NodeStatus
from swarmd.model.states import TaskState
from tests.unit.container_fakes import FakeContainers, local_containers
from tests.unit.test_control_bed import Bed, a_task


class Place(Bed):
    """Node n1 has the container t1, node n2 the task t2; ``leads`` False: no leader answers."""

    def __init__(self) -> None:
        super().__init__()
        self.runtime = FakeContainers()
        self.runtime.add("t1", task="web.1.t1")
        self.runtime.add("box1")
        self.leads = True
        self.asked: list[float] = []
        channels = SimpleNamespace(using=lambda address, name: (address, name))
        self.member: Any = SimpleNamespace(
            managing=SimpleNamespace(store=self.store, raft=self),
            memory=SimpleNamespace(node_id="n1"),
            channels=channels,
        )
        self.finder = Finder(local_containers(self.runtime), lambda: self.member)

    async def read_index(self, *, timeout: float) -> int:
        self.asked.append(timeout)
        if not self.leads:
            raise Unavailable("no leader")
        return 1


@pytest.fixture
async def place() -> Place:
    place = Place()
    there = NodeStatus(address="10.0.0.2")
    await place.put(
        Node(id="n1", description=NodeDescription(hostname="one")),
        Node(id="n2", description=NodeDescription(hostname="two"), status=there),
        a_task("t1", "n1"),
        a_task("t2", "n2"),
        a_task("t3", "gone"),
        a_task("t4", "", TaskState.PENDING),
    )
    return place


async def test_a_container_here_is_found_without_asking_anybody(place: Place) -> None:
    assert await place.finder.find("t1") is None
    assert place.asked == []
    assert await place.finder.find("box") is None


@pytest.mark.parametrize("leads", [True, False])
async def test_a_task_elsewhere_is_found_also_without_a_leader(place: Place, leads: bool) -> None:
    place.leads = leads
    found = await place.finder.find("t2")
    assert isinstance(found, Elsewhere)
    assert (found.container_id, found.hostname) == ("t2", "two")
    assert found.using() == ("10.0.0.2", "n2")  # type: ignore[comparison-overlap]


async def test_a_service_with_one_task_means_that_task_also_on_this_node(place: Place) -> None:
    place.runtime.add("t9", task="db.1.t9")
    await place.put(a_task("t9", "n1", service_id="s9", service_name="db"))
    assert await place.finder.find("db") == "t9"
    assert await place.finder.find("t9") is None


async def test_what_cannot_be_reached_is_said(place: Place) -> None:
    with pytest.raises(NotFound, match="No such container: ghost"):
        await place.finder.find("ghost")
    with pytest.raises(NotFound, match=r"node gone, where task web\.1 ran, is no longer part of the swarm"):
        await place.finder.find("t3")
    with pytest.raises(Refused, match="no node has been chosen for it yet"):
        await place.finder.find("t4")


async def test_a_worker_and_a_node_without_a_swarm_know_their_own(place: Place) -> None:
    place.member.managing = None
    assert await place.finder.find("web.1") is None
    with pytest.raises(NotFound, match="which is no manager: ask a manager for tasks of other nodes"):
        await place.finder.find("t2")
    place.member = None
    assert await place.finder.find("box1") is None
    with pytest.raises(NotFound, match=r"^No such container: t2$"):
        await place.finder.find("t2")
