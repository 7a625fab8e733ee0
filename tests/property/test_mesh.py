"""What a node makes of one change after the other is what it would make of the outcome at once."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from swarmd.node.mesh.core.buckets import size_for
from swarmd.node.mesh.core.opening import Opening
from swarmd.node.mesh.core.published import PortKey, targets
from swarmd.node.mesh.core.table import Changes
from swarmd.node.network.core.news import then
from swarmd.node.network.ingress import Ingress
from swarmd.node.network.port import Backend, NetworkState, PublishedPort

Sets = dict[tuple[str, str], dict[bytes, bytes | None]]

ADDRESSES = ({}, {"eth0": ("192.0.2.1",)}, {"eth0": ("192.0.2.1", "2001:db8::1"), "eth1": ("192.0.2.2",)})
BACKENDS = st.lists(
    st.builds(
        lambda node, place, six: Backend(
            f"t{node}.{place}", f"10.128.{node}.{place}", 80, f"n{node}", f"fd00::{node}" if six else ""
        ),
        st.integers(1, 3), st.integers(1, 3), st.booleans(),
    ),
    max_size=4, unique_by=lambda one: one.task_id,
).map(tuple)  # fmt: skip
PORTS = st.builds(
    PublishedPort,
    service_id=st.sampled_from("abcd"),
    service_name=st.just("web"),
    protocol=st.sampled_from(["tcp", "udp"]),
    port=st.integers(80, 82),
    backends=BACKENDS,
    host_ip=st.sampled_from(["", "", "eth0", "192.0.2.1", "127.0.0.1"]),
    allow=st.sampled_from([(), ("10.0.0.0/8",)]),
    sticky=st.booleans(),
    source=st.sampled_from(["", "masquerade", "masquerade", "proxy-protocol"]),
)
"""What one service publishes may come from the other ones as well: no two of them agree on their ports."""
NEWS = st.builds(
    lambda ports, also: (tuple(ports), frozenset({port.service_id for port in ports} | also)),
    st.lists(PORTS, max_size=4),
    st.sets(st.sampled_from("abcd")),
)
ALIVE = st.sets(st.sampled_from(["n1", "n2", "n3"])).map(frozenset)
STEPS = st.lists(st.tuples(NEWS, ALIVE, st.sampled_from(ADDRESSES)), min_size=1, max_size=6)


class Node:
    """The published ports of a node, and the sets in its kernel."""

    def __init__(self) -> None:
        self.opening = Opening()
        self.ingress = Ingress()
        self.sets: Sets = {}

    def advance(
        self, news: NetworkState, alive: frozenset[str], addresses: Mapping[str, tuple[str, ...]]
    ) -> set[PortKey]:
        self.opening.tell(news)
        keys = self.opening.advance(alive, addresses)
        self._write(self.ingress.changes({key: self.opening.ports.get(key) for key in keys}))
        return keys

    def _write(self, changes: Changes) -> None:
        for family, sets in changes.items():
            for name, found in sets.items():
                held = self.sets.setdefault((family, name), {})
                for key in found.remove:
                    del held[key]  # the kernel refuses what is not there
                assert not held.keys() & found.add.keys()
                held.update(found.add)

    def shape(self) -> object:
        """The sets; of the buckets, which depend on what was before, only how many there are."""
        maps = ("ep", "ep_at", "ep_large", "ep_large_at")
        return {one: set(held) if one[1] in maps else held for one, held in self.sets.items() if held}


@given(STEPS)
def test_after_any_changes_a_node_holds_what_it_would_hold_of_the_outcome_alone(
    steps: list[
        tuple[tuple[tuple[PublishedPort, ...], frozenset[str]], frozenset[str], dict[str, tuple[str, ...]]]
    ],
) -> None:
    told, node = NetworkState(1, (), ()), Node()
    for version, ((ports, changed), alive, addresses) in enumerate(steps, 2):
        news = NetworkState(version, (), ports, since=version - 1, changed=changed)
        told = then(told, news)
        before = dict(node.opening.ports)
        keys = node.advance(news, alive, addresses)
        assert keys == {
            one
            for one in before.keys() | node.opening.ports.keys()
            if before.get(one) != node.opening.ports.get(one)
        }
        fresh = Node()
        fresh.advance(told, alive, addresses)
        assert node.opening.ports == fresh.opening.ports
        assert node.opening.problems() == fresh.opening.problems()
        assert node.shape() == fresh.shape()
        for port in node.opening.ports.values():
            assert_fair(node, port)


def assert_fair(node: Node, port: PublishedPort) -> None:
    """Each backend has its share of the buckets, whatever was before."""
    members = targets(port, "ip")
    buckets = node.ingress._buckets.get(("ip", (port.protocol, port.port, port.host_ip)), ())
    if buckets:
        shares = [buckets.count(one) for one in members]
        assert sum(shares) == len(buckets) == size_for(len(members))
        assert max(shares) - min(shares) <= 1
