"""A node's number says which addresses its containers have, in both families alike."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from swarmd.model.addressing import address6_of, block6_of, block_of


@pytest.mark.parametrize(
    ("number", "block", "block6"),
    [
        (1, "10.128.1.0/24", "fd73:7761:726d:1::/64"),
        (300, "10.129.44.0/24", "fd73:7761:726d:12c::/64"),
        (16383, "10.191.255.0/24", "fd73:7761:726d:3fff::/64"),
    ],
)
def test_the_blocks_of_a_node_follow_from_its_number(number: int, block: str, block6: str) -> None:
    assert (block_of(number), block6_of(number)) == (block, block6)


def test_an_ipv6_address_has_the_same_node_and_place_as_its_ipv4_address() -> None:
    assert address6_of("10.129.44.254") == "fd73:7761:726d:12c::fe"
    assert address6_of("10.128.1.0") == "fd73:7761:726d:1::"
    assert ip_address(address6_of("10.191.255.7")) in ip_network(block6_of(16383))
