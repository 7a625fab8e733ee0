"""A container whose address somebody else has now leaves the network before anybody could take it for him."""

from __future__ import annotations

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.node.network import shell
from swarmd.node.network.core.fence import Fence
from swarmd.node.network.port import Attachment, Endpoint, NetworkState, NetworkView


def place(task_id: str, address: str = "10.0.0.5") -> Attachment:
    return Attachment(task_id, 1, "10.128.1.1", networks=(("blue", (address, "fd00::5")),))


def told(version: int, *owners: tuple[str, str]) -> NetworkState:
    endpoints = tuple(
        Endpoint(task, task, "s", 1, "n2", "blue", (address,), up=True) for task, address in owners
    )
    return NetworkState(
        version, (), (), networks=(NetworkView("blue", "blue", ("10.0.0.0/24",)),), endpoints=endpoints
    )


def test_a_task_whose_address_was_given_to_another_is_outside() -> None:
    fence, here = Fence(), (place("mine"), place("other", "10.0.0.6"))
    assert fence.outside(here, told(3, ("mine", "10.0.0.5"), ("other", "10.0.0.6"))) == ()
    assert fence.outside(here, told(4, ("theirs", "10.0.0.5"), ("other", "10.0.0.6"))) == ("mine",)


@pytest.mark.parametrize("owners", [(), (("mine", "10.0.0.5"),), (("theirs", "10.0.0.7"),)])
def test_a_task_that_nobody_is_told_of_any_more_stays_until_it_ends(
    owners: tuple[tuple[str, str], ...],
) -> None:
    fence, here = Fence(), (place("mine"),)
    fence.outside(here, told(3))
    assert fence.outside(here, told(4, *owners)) == ()


def test_what_was_told_before_a_task_came_says_nothing_of_it() -> None:
    fence, old = Fence(), told(3, ("before", "10.0.0.5"))
    assert fence.outside((), old) == ()
    assert fence.outside((place("mine"),), old) == ()
    assert fence.outside((place("mine"),), told(3, ("before", "10.0.0.5"))) == ()
    assert fence.outside((place("mine"),), told(4, ("mine", "10.0.0.5"))) == ()


def test_an_address_is_one_of_its_network() -> None:
    fence, here = Fence(), (Attachment("mine", 1, "10.128.1.1", networks=(("red", ("10.0.0.5",)),)),)
    fence.outside(here, told(3))
    assert fence.outside(here, told(4, ("theirs", "10.0.0.5"))) == ()


async def test_the_node_takes_it_off_the_network_with_the_first_it_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = shell.Network("n1", SystemClock(), lambda *_: None)
    gone: list[str] = []
    monkeypatch.setattr(network._containers, "all", lambda: (place("mine"),))
    monkeypatch.setattr(network._containers, "detach", gone.append)
    network._ready = True
    await network.apply(told(3, ("mine", "10.0.0.5")))
    assert gone == []
    await network.apply(told(4, ("theirs", "10.0.0.5")))
    assert gone == ["mine"]
    await network.stop(clean=False)
