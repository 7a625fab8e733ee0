"""The kernel's state against what was asked for: every difference is told, and made good again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from swarmd.node.mesh.core.table import Elements
from swarmd.node.network.nfaudit import RuleAudit
from swarmd.node.network.tables import Tables
from swarmd.node.network.wire import NETFILTER, Netlink, open_socket
from tests.integration.network_bed import Bed, ask, bed, eventually, inside, run

pytestmark = pytest.mark.root

LIMIT = 60.0
"""Seconds; a machine with nothing else to do needs ten of them at most."""

_PUBLISHED = "nftables set ip swarmd published (published ports)"
_BENT = "the rules of nftables table ip swarmd were changed by somebody else"
DAMAGE = {
    "a neighbour": ("ip neighbour delete 10.128.2.0 dev vx0", "neighbour 10.128.2.0 02:77:00"),
    "a forwarding entry": (
        "bridge fdb delete 02:77:00:00:00:02 dev vx0 dst 172.30.0.2 self",
        "entry 02:77:00:00:00:02 172.30.0.2 on vx0 is missing",
    ),
    "a route to a node": ("ip route delete 10.128.2.0/24", "via 10.128.2.0 on vx0 is missing"),
    "the block": ("ip route delete unreachable 10.128.1.0/24", "unreachable is missing"),
    "the node's own address": ("ip address delete 10.128.1.0/32 dev vx0", "address 10.128.1.0 on vx0"),
    "a route too many": ("ip route add 10.128.9.0/24 dev vx0 proto 83", "10.128.9.0/24 on vx0 is not wanted"),
    "a neighbour too many": (
        "ip neighbour add 10.128.9.9 lladdr 02:00:00:00:00:09 dev vx0 nud permanent",
        "neighbour 10.128.9.9 02:00:00:00:00:09 on vx0 is not",
    ),
    "the route to a container": ("ip route delete {container}/32", "route {container}/32 on r1 is missing"),
    "the neighbour of a container": ("ip neighbour delete {container} dev r1", "neighbour {container} "),
    "a device that is down": ("ip link set r1 down", "the interface r1 is down"),
    "forwarding": ("sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward is not 1"),
    "the filter of ways back": ("sysctl -qw net.ipv4.conf.vx0.rp_filter=1", "vx0.rp_filter is not 2"),
    "how long silence is kept": (
        "sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=900",
        "net.netfilter.nf_conntrack_tcp_timeout_established is less than 86400",
    ),
    "an element": (
        "nft delete element ip swarmd published {{ tcp . 80 }}",
        f"{_PUBLISHED} lacks 1 of 1 elements, such as for port 80/tcp",
    ),
    "an element too many": (
        "nft add element ip swarmd published {{ tcp . 4444 }}",
        f"{_PUBLISHED} has 1 that nobody asked for, such as for port 4444/tcp",
    ),
    "a map": ("nft flush map ip swarmd ep", "swarmd ep (the tasks behind published ports) lacks"),
    "an interval": ("nft flush set ip swarmd pools", "swarmd pools (the addresses of containers) lacks"),
    "a rule": ("nft flush chain ip swarmd c_dnat", _BENT),
    "a rule too many": ("nft insert rule ip swarmd c_fwd drop", _BENT),
    "the tables": ("nft flush ruleset", "the nftables tables swarmd of this node are not there"),
    "the overlay": ("ip link delete vx0", "the interface vx0 is gone"),
}  # fmt: skip


class Stage:
    """Two nodes, a container on each, both behind port 80."""

    def __init__(self, made: Bed) -> None:
        self.bed = made
        self.node = made.nodes[0]
        self.local = made.container(1, "near")
        made.publish(80, self.local, made.container(2, "far"))

    def harm(self, what: str) -> str:
        """Do it; answers what is to be said of it."""
        command, sentence = (text.format(container=self.local.address) for text in DAMAGE[what])
        run("ip", "netns", "exec", self.node.namespace, *command.split())
        return sentence

    def serves(self, patience: float = 30.0) -> bool:
        """Whether both answer; who asks is not served after so many seconds."""
        answered: set[str] = set()
        try:
            for _ in range(60):
                answered.add(ask(self.bed.hub, self.node.address, 80, patience)[0])
                if len(answered) == 2:
                    return True
        except OSError:
            pass
        return False


@pytest.fixture(scope="module")
def unkept() -> Iterator[Stage]:
    """Nobody looks after this one by himself."""
    with bed(2, name="u", environment={"SWARM_BED_KEEPER": "3600"}) as made:
        yield Stage(made)


@pytest.mark.parametrize("what", DAMAGE)
def test_what_others_break_is_told_and_made_whole_by_one_look(unkept: Stage, what: str) -> None:
    assert unkept.node.call("audit") == []
    sentence = unkept.harm(what)
    found = unkept.node.call("audit")
    assert [one for one in found if sentence in one], found
    unkept.node.call("mend")
    assert unkept.node.call("audit") == []
    assert unkept.serves()


KEYS = [bytes([10, 0, 0, number]) for number in range(1, 101)]

VALUE = bytes([10, 1, 1, 1])


@pytest.fixture
def tables() -> Iterator[tuple[Tables, RuleAudit, Callable[[str], None]]]:
    """A map of ours in a namespace of its own, a look at it, and somebody else's hand."""
    name = f"swdoubts{os.getpid()}"
    run("ip", "netns", "add", name)
    sockets = [Netlink(NETFILTER, inside(name, partial(open_socket, NETFILTER))) for _ in range(2)]

    def somebody(command: str) -> None:
        run("ip", "netns", "exec", name, "nft", command)

    try:
        somebody("add table ip swarmd { map vip { type ipv4_addr : ipv4_addr; }; }")
        somebody("add set ip swarmd refused { type ipv4_addr; }")
        written = Tables(sockets[0])
        audit = RuleAudit(*sockets, written)
        audit.begin(("ip",))
        written.want("ip", {"vip": dict.fromkeys(KEYS, VALUE)})
        written.write()
        assert not audit.touched()
        yield written, audit, somebody
    finally:
        for one in sockets:
            one.close()
        run("ip", "netns", "delete", name)


def test_what_we_write_while_the_kernel_is_read_is_no_difference(
    tables: tuple[Tables, RuleAudit, Callable[[str], None]],
) -> None:
    written, audit, somebody = tables
    somebody("delete element ip swarmd vip { 10.0.0.1 }; add element ip swarmd vip { 10.9.9.9 : 10.0.0.1 }")
    assert audit.touched()
    doubts = audit.doubts()
    assert doubts == {("ip", "vip"): {KEYS[0], bytes([10, 9, 9, 9])}}
    # What is read while we write may lack what is there and have what is not any more.
    wanted: Elements = {**dict.fromkeys(KEYS[:50], VALUE), KEYS[45]: KEYS[0]}
    written.want("ip", {"vip": wanted})
    written.write()
    seeming = {("ip", "vip"): {*doubts["ip", "vip"], *KEYS[40:60]}}  # type: ignore[misc]
    (sentence,) = audit.differing(seeming, adopt=True)
    assert sentence.endswith("lacks 1 of 50 elements and has 1 that nobody asked for")
    written.write()
    audit.settle()
    assert audit.doubts() == {}
    assert audit.differing({("ip", "vip"): set(KEYS)}) == []


def test_what_we_write_is_not_taken_for_somebody_elses(
    tables: tuple[Tables, RuleAudit, Callable[[str], None]],
) -> None:
    written, audit, _ = tables
    for wanted in ({}, {KEYS[0]: None}, {}, {}):
        written.forget()
        written.want("ip", {"refused": wanted})
        written.write()
        assert not audit.touched()
    written.want("ip", {"vip": {}})
    written.write()
    for _ in range(2):  # the first empties what the second finds empty
        written.forget()
        written.write()
        assert not audit.touched()


def test_a_change_that_comes_while_the_kernel_is_read_is_looked_at_the_next_time(
    tables: tuple[Tables, RuleAudit, Callable[[str], None]],
) -> None:
    _, audit, somebody = tables
    somebody("add table ip other")
    assert audit.touched()
    assert audit.doubts() == {}
    somebody("delete element ip swarmd vip { 10.0.0.7 }")
    audit.settle()
    assert audit.touched()
    assert audit.doubts() == {("ip", "vip"): {KEYS[6]}}


def test_everything_broken_at_once_is_whole_in_a_few_seconds() -> None:
    with bed(2, name="k") as made:
        stage = Stage(made)
        for what in DAMAGE:
            stage.harm(what)
        eventually(lambda: stage.node.call("audit") == [] and stage.serves(1.0), "all of it is mended", LIMIT)
        assert [node.call("audit") for node in made.nodes] == [[], []]
        assert [node.call("traffic")["mended"] > 0 for node in made.nodes] == [True, False]
