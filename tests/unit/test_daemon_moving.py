"""Which address a node has after a restart: what was asked for decides; what is not found changes nothing."""

from __future__ import annotations

import pytest

from swarmd.daemon.moving import how_chosen, moved, today
from swarmd.daemon.state import NodeMemory
from swarmd.model.errors import Invalid

BEFORE = "10.0.0.1"
ONE = {"lo": "127.0.0.1", "eth0": "10.0.0.9"}
TWO = {**ONE, "eth1": "192.168.1.9"}
BOTH = {**ONE, "eth1": BEFORE}


def memory(chosen: str, listen: str = "0.0.0.0") -> NodeMemory:
    return NodeMemory(node_id="n1", cluster_id="c1", address=BEFORE, listen=listen, chosen=chosen)


@pytest.mark.parametrize(
    ("advertised", "chosen"),
    [
        ("", "auto"),
        ("0.0.0.0", "auto"),
        ("eth0", "eth0"),
        ("eth0:2377", "eth0"),
        ("10.0.0.1", ""),
        ("10.0.0.1:2377", ""),
    ],
)
def test_how_the_address_was_chosen_is_what_the_user_wrote(advertised: str, chosen: str) -> None:
    assert how_chosen(advertised) == chosen


@pytest.mark.parametrize(
    ("chosen", "setting", "known", "now"),
    [
        ("eth0", "", ONE, "10.0.0.9"),
        ("eth0", "", BOTH, "10.0.0.9"),
        ("auto", "", ONE, "10.0.0.9"),
        ("auto", "", BOTH, BEFORE),
        ("", "eth0", ONE, "10.0.0.9"),
        ("eth0", "192.168.1.9", TWO, "192.168.1.9"),
    ],
)
def test_the_address_follows_what_was_asked_for(
    chosen: str, setting: str, known: dict[str, str], now: str
) -> None:
    assert moved(memory(chosen), setting, known).address == now


@pytest.mark.parametrize(
    ("chosen", "known"), [("eth7", ONE), ("auto", TWO), ("auto", {"lo": "127.0.0.1"}), ("", ONE)]
)
def test_what_cannot_be_found_or_was_fixed_leaves_the_address_as_it_was(
    chosen: str, known: dict[str, str]
) -> None:
    assert moved(memory(chosen), "", known) == memory(chosen)


def test_a_setting_that_cannot_be_followed_is_refused() -> None:
    with pytest.raises(Invalid, match=r"advertise_addr 10\.0\.0\.7 is not an address of this node"):
        moved(memory("auto"), "10.0.0.7", ONE)


def test_a_node_that_listened_on_its_own_address_only_goes_on_with_the_new_one() -> None:
    assert moved(memory("auto", BEFORE), "", ONE).listen == "10.0.0.9"
    assert moved(memory("auto"), "", ONE).listen == "0.0.0.0"


def test_what_is_told_to_others_is_on_the_disk_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.node.addresses.interface_addresses", lambda: dict(ONE))
    saved: list[NodeMemory] = []
    assert today(memory("eth0"), "", saved.append).address == "10.0.0.9"
    assert [one.address for one in saved] == ["10.0.0.9"]
    assert today(saved[0], "", saved.append) == saved[0]
    assert len(saved) == 1, "nothing changed, nothing is written"
