"""Which managers' certificates count on the cluster port, beyond what TLS says of them."""

from __future__ import annotations

import asyncio

import pytest

from swarmd.daemon.lanes import LaneRule, cut_those_who_may_not
from swarmd.model.errors import Denied
from swarmd.model.objects import Node, NodeCertificate, NodeStatus, RemovedNode
from swarmd.model.replace import replace
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Availability, NodeState, Role
from swarmd.security import ca, roots
from swarmd.security.issuing import Signer
from tests.unit.test_control_bed import Bed, settle

DAYS = 86400.0
MANAGER = Node(id="m", number=1, spec=NodeSpec(role=Role.MANAGER), role=Role.MANAGER)


class Lanes(Bed):
    """A rule over a store, and certificates for it."""

    def __init__(self) -> None:
        super().__init__()
        self.root, self.key = ca.new_root(self.clock.now())
        self.group = {"m"}
        self.bundle = self.root
        self.rule = LaneRule(
            lambda: self.store, self.clock, is_with=lambda n: n in self.group, trusted=lambda: self.bundle
        )

    def certified(self, life: float = 90 * DAYS, signer: Signer | None = None) -> bytes:
        identity = ca.Identity("m", Role.MANAGER, "c1")
        request = ca.new_request(ca.new_key())
        return (signer or Signer(self.root, self.key)).sign(
            request, identity, now=self.clock.now(), life=life
        )

    def lets_in(self, certificate: bytes) -> bool:
        try:
            self.rule.check("m", certificate)
        except Denied:
            return False
        return True


async def test_a_manager_is_let_in_and_so_is_one_that_the_store_does_not_know_yet() -> None:
    lanes = Lanes()
    lanes.group = set()
    assert lanes.lets_in(lanes.certified())
    await lanes.put(MANAGER)
    assert lanes.lets_in(lanes.certified())


async def test_a_removed_manager_is_refused_whatever_else_is_said_of_it() -> None:
    lanes = Lanes()
    await lanes.put(RemovedNode(id="m", until=2e9))
    assert not lanes.lets_in(lanes.certified())


async def test_a_demoted_manager_is_refused_once_the_group_has_let_it_go() -> None:
    lanes = Lanes()
    await lanes.put(replace(MANAGER, spec=NodeSpec(role=Role.WORKER)))
    assert lanes.lets_in(lanes.certified()), "it is about to leave"
    row = lanes.store.get(Node, "m")
    assert row is not None
    await lanes.put(replace(row, role=Role.WORKER))
    assert lanes.lets_in(lanes.certified()), "the others fetch its last entries"
    lanes.group = set()
    assert not lanes.lets_in(lanes.certified())


async def test_an_expired_certificate_counts_for_a_known_manager_that_used_it_last() -> None:
    lanes = Lanes()
    old = lanes.certified()
    lanes.clock.advance(30 * DAYS)
    newer = lanes.certified()
    lanes.clock.advance(200 * DAYS)
    assert not lanes.lets_in(newer), "nobody knows it"
    used = NodeStatus(certificate=NodeCertificate(valid_from=ca.validity(newer)[0]))
    await lanes.put(replace(MANAGER, status=used))
    assert lanes.lets_in(newer)
    assert not lanes.lets_in(old), "it was replaced, and may have been copied"


async def test_a_certificate_from_the_future_is_refused() -> None:
    lanes = Lanes()
    await lanes.put(MANAGER)
    lanes.clock.advance(2 * DAYS)
    early = lanes.certified()
    lanes.clock.advance(-DAYS)
    assert not lanes.lets_in(early)


async def test_what_stands_by_an_old_root_ends_when_only_the_new_one_is_trusted() -> None:
    lanes = Lanes()
    new, new_key = ca.new_root(lanes.clock.now())
    old_one = lanes.certified()
    new_one = lanes.certified(signer=Signer(new, new_key))
    lanes.bundle = lanes.root + new
    for certificate in (old_one, new_one):
        lanes.rule.check_issuer("m", certificate)
    lanes.bundle = roots.split(new)[0]
    lanes.rule.check_issuer("m", new_one)
    with pytest.raises(Denied, match="trusted no more"):
        lanes.rule.check_issuer("m", old_one)


async def test_open_connections_are_looked_at_when_roles_change_and_not_at_every_verdict() -> None:
    lanes = Lanes()
    await lanes.put(MANAGER, Node(id="w", number=2))
    looks: list[int] = []
    watching = asyncio.ensure_future(
        cut_those_who_may_not(lanes.store, lambda: looks.append(lanes.store.index))
    )

    async def change(**changes: object) -> int:
        row = lanes.store.get(Node, "m")
        assert row is not None
        before = len(looks)
        await lanes.put(replace(row, **changes))
        await settle()
        return len(looks) - before

    await settle()
    assert len(looks) == 1, "what happened before it began is looked at, too"
    assert await change(status=NodeStatus(state=NodeState.DOWN)) == 0
    assert await change(spec=NodeSpec(role=Role.MANAGER, availability=Availability.DRAIN)) == 0
    assert await change(spec=NodeSpec(role=Role.WORKER)) == 1
    assert await change(role=Role.WORKER) == 1
    await lanes.put(RemovedNode(id="w", until=2e9))
    await settle()
    assert len(looks) == 4
    watching.cancel()
