"""Which packets pass between two nodes, and through their overlay, as the doctor finds out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from swarmd.model.errors import Unavailable
from swarmd.node.network.diagnosis import device_mtu
from swarmd.node.network.echo import Echo
from tests.integration.network_bed import Bed, Node, bed, inside

pytestmark = pytest.mark.root
UNDERLAY, OVERLAY = ("172.30.0.1", "172.30.0.2"), ("10.128.1.0", "10.128.2.0")


@pytest.fixture(scope="module")
def swarm() -> Iterator[Bed]:
    with bed(2) as made:
        made.push()
        yield made


def largest(node: Node, ends: tuple[str, str], most: int) -> int:
    def look() -> int:
        with contextlib.closing(Echo(ends[0], waits=(0.5, 0.5, 1.0))) as echo:
            return echo.largest([ends[1]], most)[ends[1]]

    return inside(node.namespace, look)


@contextlib.contextmanager
def foreign(node: Node, rule: str) -> Iterator[None]:
    """A rule of somebody else in front of everything that comes in."""
    node.nft("add", "table", "ip", "foreign")
    try:
        node.nft("add", "chain", "ip", "foreign", "i", "{ type filter hook input priority -300; }")
        node.nft("add", "rule", "ip", "foreign", "i", *rule.split())
        yield
    finally:
        node.nft("delete", "table", "ip", "foreign")


def test_packets_of_the_devices_sizes_pass(swarm: Bed) -> None:
    first = swarm.nodes[0]
    assert inside(first.namespace, lambda: device_mtu("vx0")) == 1450
    assert largest(first, UNDERLAY, 1500) == 1500
    assert largest(first, OVERLAY, 1450) == 1450


def test_a_narrower_link_is_measured_to_the_byte(swarm: Bed) -> None:
    first, second = swarm.nodes
    with foreign(second, "ip length > 1350 drop"):  # a little less than is tried: what fails takes its time
        assert largest(first, UNDERLAY, 1354) == 1350
        assert largest(first, OVERLAY, 1304) == 1300


def test_a_closed_data_path_is_told_from_a_closed_machine(swarm: Bed) -> None:
    first, second = swarm.nodes
    with foreign(second, "udp dport 4789 drop"):
        assert largest(first, OVERLAY, 1450) == 0
        assert largest(first, UNDERLAY, 1500) == 1500


def test_a_packet_larger_than_the_own_device_takes_is_none_that_passes(swarm: Bed) -> None:
    assert largest(swarm.nodes[0], UNDERLAY, 9000) == 1500


def test_asking_from_an_address_of_somebody_else_is_refused(swarm: Bed) -> None:
    with pytest.raises(Unavailable, match=r"172\.30\.0\.2 cannot be asked from"):
        largest(swarm.nodes[0], (UNDERLAY[1], UNDERLAY[0]), 1500)
