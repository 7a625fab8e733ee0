"""Which address the others reach a node by: what is given, or the only one there is."""

from __future__ import annotations

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.addresses import interface_addresses, resolve

ONE = {"lo": "127.0.0.1", "eth0": "192.168.1.5"}
TWO = {**ONE, "wlan0": "10.0.0.8"}


@pytest.mark.parametrize(
    "text", ["", "192.168.1.5", "192.168.1.5:2377", "eth0", "eth0:2377", "0.0.0.0", ":2377"]
)
def test_the_only_address_is_found_however_it_is_written(text: str) -> None:
    assert resolve(text, ONE) == "192.168.1.5"


@pytest.mark.parametrize(
    ("text", "address"), [("wlan0", "10.0.0.8"), ("10.0.0.8", "10.0.0.8"), ("lo", "127.0.0.1")]
)
def test_one_of_several_is_chosen_by_name_or_number(text: str, address: str) -> None:
    assert resolve(text, TWO) == address


@pytest.mark.parametrize("text", ["", "0.0.0.0"])
def test_several_addresses_are_listed_for_the_user_to_choose(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        resolve(text, TWO)
    for part in (
        "could not choose an IP address",
        "192.168.1.5 on eth0",
        "10.0.0.8 on wlan0",
        "--advertise-addr",
    ):
        assert part in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_a_node_that_nobody_can_reach_is_told_so() -> None:
    with pytest.raises(Invalid, match=r"no address that others could reach: .* --listen-addr"):
        resolve("", {"lo": "127.0.0.1"}, option="listen-addr")


@pytest.mark.parametrize("text", ["eth9", "host.example", "1.2.3"])
def test_what_is_neither_address_nor_interface_is_quoted_with_what_there_is(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        resolve(text, TWO)
    assert f'"{text}" is neither an IP address nor an interface' in str(caught.value)
    assert "eth0, wlan0" in str(caught.value)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(Invalid, match=r"advertise-addr 10\.9\.9\.9 is not an address of this node"):
        resolve("10.9.9.9", TWO)


def test_this_machine_has_a_loopback() -> None:
    assert interface_addresses()["lo"] == "127.0.0.1"
