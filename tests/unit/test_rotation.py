"""The way from one root to the next, step by step, whoever leads."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from swarmd.control.authority import Authorities, NewRoot
from swarmd.manager.authority import Authority
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.manager.rotation.core.steps import BATCH, SLOT, plan
from swarmd.manager.rotation.loop import RotationLoop
from swarmd.model.errors import Invalid, Refused
from swarmd.model.objects import CaRotation, Cluster, Node, NodeCertificate, NodeStatus
from swarmd.model.replace import replace
from swarmd.model.spec import NodeSpec
from swarmd.model.states import NodeState, Role, RotationPhase
from swarmd.rpc.v1 import agent_pb2
from swarmd.security import ca, issuing, roots, tokens
from swarmd.store.core.transaction import Delete
from tests.unit.test_control_bed import Bed
from tests.unit.test_roots import KEY, certificate, pem_of


class Machine:
    """A node as it follows a leader: keeps a certificate and a bundle, and says which."""

    def __init__(self, swarm: Swarm, node_id: str) -> None:
        self.swarm, self.node_id = swarm, node_id
        self.certificate = b""
        self.bundle = swarm.root
        self.renewals = 0
        self.up = True

    def told(self, info: agent_pb2.SessionInfo) -> None:
        if roots.leads_to(self.certificate, info.root_ca):
            self.bundle = info.root_ca
        if info.wanted_issuer not in ("", roots.issuer_key_id(self.certificate)):
            self.renew()

    def renew(self) -> None:
        request = ca.new_request(ca.new_key())
        issued = Authority(self.swarm.store, self.swarm.clock, self.swarm.new_id).renew(self.node_id, request)
        assert roots.leads_to(issued.certificate, self.bundle), "it could not be used"
        self.certificate = issued.certificate
        self.renewals += 1

    def says(self) -> NodeCertificate:
        return NodeCertificate(
            issuer=roots.issuer_key_id(self.certificate),
            trusts=tuple(tokens.ca_digest(root) for root in roots.split(self.bundle)),
        )


class Swarm(Bed):
    """Machines and a store; every :meth:`turn` is led by somebody who has only the store."""

    def __init__(self) -> None:
        super().__init__()
        self.root, self.key = ca.new_root(self.clock.now())
        self.machines: dict[str, Machine] = {}
        self.authorities = Authorities(self.store, self.clock)

    async def open(self, *names: str) -> None:
        await self.put(Cluster(id="c1", root_ca=self.root, ca_key=self.key, worker_token="w" * 25))
        for number, name in enumerate(names, 1):
            await self.put(Node(id=name, number=number, spec=NodeSpec(role=Role.WORKER)))
            self.machines[name] = Machine(self, name)
            self.machines[name].renew()
            await self.report(name)

    def cluster(self) -> Cluster:
        cluster = self.store.cluster()
        assert cluster is not None
        return cluster

    async def report(self, name: str) -> None:
        row = self.store.get(Node, name)
        assert row is not None
        machine = self.machines[name]
        state = NodeState.READY if machine.up else NodeState.DOWN
        status = NodeStatus(state=state, certificate=machine.says() if machine.up else row.status.certificate)
        if status != row.status:
            await self.put(replace(row, status=status))

    def new_leader(self) -> RotationLoop:
        def wake(nodes: Collection[str]) -> None:
            """Sessions are looked at in every turn."""

        return RotationLoop(self.store, self.clock, wake)

    async def turn(self, leader: RotationLoop) -> None:
        """The leader looks once, every machine that is up is told, and says what has changed."""
        await leader.step()
        dispatcher = Dispatcher(
            self.store, self.clock, gossip=dict, managers=list, wanted_issuer=leader.wanted_issuer
        )
        for name, machine in self.machines.items():
            info = dispatcher._info(name)
            if machine.up and info is not None:
                machine.told(info)
            await self.report(name)
        self.clock.advance(1.0)

    def everybody_verifies_everybody(self) -> bool:
        up = [machine for machine in self.machines.values() if machine.certificate]
        return all(roots.leads_to(one.certificate, other.bundle) for one in up for other in up)


@pytest.fixture
async def swarm() -> Swarm:
    swarm = Swarm()
    await swarm.open("a", "b", "c")
    return swarm


async def rotated(swarm: Swarm, digest: str, limit: int = 20) -> None:
    """Turns, each under another leader, until that root is the only one; nobody is ever shut out."""
    for _ in range(limit):
        await swarm.turn(swarm.new_leader())
        assert swarm.everybody_verifies_everybody()
        cluster = swarm.cluster()
        if cluster.rotation is None and tokens.ca_digest(cluster.root_ca) == digest:
            break
    else:
        raise AssertionError(f"not done: {swarm.authorities.progress()}")
    await swarm.turn(swarm.new_leader())
    assert {machine.bundle for machine in swarm.machines.values()} == {swarm.cluster().root_ca}


async def test_every_step_may_be_another_leaders_and_nobody_is_shut_out_in_between(swarm: Swarm) -> None:
    before = {name: machine.renewals for name, machine in swarm.machines.items()}
    digest = await swarm.authorities.rotate(NewRoot())
    await rotated(swarm, digest)
    assert swarm.cluster().root_ca != swarm.root
    assert {n: m.renewals - before[n] for n, m in swarm.machines.items()} == {"a": 1, "b": 1, "c": 1}


async def test_the_new_root_signs_only_when_everybody_who_is_up_trusts_it(swarm: Swarm) -> None:
    await swarm.authorities.rotate(NewRoot())
    leader = swarm.new_leader()
    await leader.step()
    rotation = swarm.cluster().rotation
    assert rotation is not None
    assert rotation.phase is RotationPhase.TRUST, "nobody has said yet that it trusts it"
    assert issuing.signer(swarm.cluster()).root == swarm.root
    await swarm.turn(leader)
    await swarm.turn(leader)
    assert issuing.signer(swarm.cluster()).root == rotation.root_ca


async def test_a_node_that_is_down_is_waited_for_at_the_end_and_only_there(swarm: Swarm) -> None:
    swarm.machines["b"].up = False
    await swarm.report("b")
    digest = await swarm.authorities.rotate(NewRoot())
    for _ in range(10):
        await swarm.turn(swarm.new_leader())
    progress = swarm.authorities.progress()
    assert progress is not None
    assert (progress.nodes, progress.trusting, progress.certified) == (3, 2, 2)
    ((node, reason),) = [(one.node.id, one.reason) for one in progress.awaited]
    assert (node, reason) == ("b", "it is down: start it, or remove it with `swarmctl node rm`")
    swarm.machines["b"].up = True
    await swarm.report("b")
    await rotated(swarm, digest)


async def test_removing_the_node_that_is_down_lets_it_go_on(swarm: Swarm) -> None:
    swarm.machines["b"].up = False
    await swarm.report("b")
    digest = await swarm.authorities.rotate(NewRoot())
    for _ in range(10):
        await swarm.turn(swarm.new_leader())
    assert swarm.cluster().rotation is not None
    row = swarm.store.get(Node, "b")
    assert row is not None
    await swarm.store.commit([Delete(Node, "b", row.version)])
    del swarm.machines["b"]
    await rotated(swarm, digest)


@pytest.mark.parametrize("turns", range(5))
async def test_another_rotation_at_any_moment_turns_to_the_newer_root(swarm: Swarm, turns: int) -> None:
    await swarm.authorities.rotate(NewRoot())
    for _ in range(turns):
        await swarm.turn(swarm.new_leader())
    digest = await swarm.authorities.rotate(NewRoot())
    await rotated(swarm, digest)


@pytest.mark.parametrize("turns", range(5))
async def test_who_joins_at_any_moment_verifies_with_the_root_of_its_token(swarm: Swarm, turns: int) -> None:
    digest = await swarm.authorities.rotate(NewRoot())
    for _ in range(turns):
        await swarm.turn(swarm.new_leader())
    root = swarm.cluster().root_ca
    authority = Authority(swarm.store, swarm.clock, swarm.new_id)
    issued = await authority.join("w" * 25, ca.new_request(ca.new_key()))
    assert roots.leads_to(issued.certificate, root)
    joined = swarm.machines[issued.node_id] = Machine(swarm, issued.node_id)
    joined.certificate, joined.bundle = issued.certificate, root
    await rotated(swarm, digest)


async def test_the_tokens_change_with_the_root_and_not_before(swarm: Swarm) -> None:
    digest = await swarm.authorities.rotate(NewRoot())
    await swarm.turn(swarm.new_leader())
    assert tokens.ca_digest(swarm.cluster().root_ca) != digest
    await rotated(swarm, digest)
    assert tokens.parse_token(tokens.make_token(swarm.cluster().root_ca, "w" * 25)).ca_digest == digest


async def test_a_root_from_outside_is_gone_over_to(swarm: Swarm) -> None:
    given = certificate(KEY, own_identifier=b"own way")
    digest = await swarm.authorities.rotate(NewRoot(certificate=given, key=pem_of(KEY)))
    assert digest == tokens.ca_digest(given)
    await rotated(swarm, digest)
    with pytest.raises(Refused, match="already"):
        await swarm.authorities.rotate(NewRoot(certificate=given, key=pem_of(KEY)))


async def test_what_makes_no_sense_changes_nothing(swarm: Swarm) -> None:
    for wanted in (
        NewRoot(certificate=certificate(KEY)),
        NewRoot(key=pem_of(KEY)),
        NewRoot(certificate_expiry=60.0),
    ):
        with pytest.raises(Invalid):
            await swarm.authorities.rotate(wanted)
    assert swarm.cluster().rotation is None


async def test_the_life_of_certificates_may_change_along(swarm: Swarm) -> None:
    digest = await swarm.authorities.rotate(NewRoot(certificate_expiry=7200.0))
    await rotated(swarm, digest)
    begin, end = ca.validity(swarm.machines["a"].certificate)
    assert end - begin == 7200.0 + 3600.0, "an hour of it is in the past"


async def test_the_status_of_a_node_says_whether_it_has_gone_over(swarm: Swarm) -> None:
    node = swarm.store.get(Node, "a")
    assert node is not None
    assert swarm.authorities.tls_status(node) == "Ready"
    await swarm.authorities.rotate(NewRoot())
    assert swarm.authorities.tls_status(node) == "Needs Rotation"


# -- batches -------------------------------------------------------------------------------------


def large(nodes: int) -> tuple[Cluster, list[Node], NodeCertificate]:
    """A swarm in the second phase; what a node says that trusts the new root."""
    old, old_key = ca.new_root(0.0)
    new, new_key = ca.new_root(0.0)
    rotation = CaRotation(phase=RotationPhase.ISSUE, root_ca=new, ca_key=new_key)
    cluster = Cluster(id="c1", root_ca=old, ca_key=old_key, rotation=rotation)
    own = NodeCertificate(issuer=roots.key_id(old), trusts=(tokens.ca_digest(old), tokens.ca_digest(new)))
    status = NodeStatus(state=NodeState.READY, certificate=own)
    rows = [Node(id=f"n{number}", number=number, status=status) for number in range(nodes)]
    return cluster, rows, replace(own, issuer=roots.key_id(new))


def test_a_batch_is_asked_at_a_time_and_the_next_follows_as_they_finish() -> None:
    cluster, nodes, over = large(100)
    first = plan(cluster, nodes, {}, 0.0).asked
    assert first.keys() == {f"n{number}" for number in range(BATCH)}
    assert plan(cluster, nodes, first, 1.0).asked == first
    done = [replace(nodes[3], status=replace(nodes[3].status, certificate=over))]
    then = plan(cluster, [*nodes[:3], *done, *nodes[4:]], first, 2.0).asked
    assert then.keys() == (first.keys() - {"n3"}) | {f"n{BATCH}"}


def test_nodes_that_do_not_answer_hold_up_the_others_for_a_while_only() -> None:
    cluster, nodes, _ = large(100)
    asked = plan(cluster, nodes, {}, 0.0).asked
    later = plan(cluster, nodes, asked, SLOT + 1).asked
    assert len(later) == 2 * BATCH
    assert asked.keys() < later.keys(), "they stay asked"


def test_nodes_that_are_not_ready_are_not_asked() -> None:
    cluster, nodes, _ = large(2)
    away = replace(nodes[0], status=replace(nodes[0].status, state=NodeState.DISCONNECTED))
    assert plan(cluster, [away, nodes[1]], {}, 0.0).asked.keys() == {"n1"}


async def test_a_change_by_somebody_else_is_looked_at_before_the_next_step(swarm: Swarm) -> None:
    await swarm.authorities.rotate(NewRoot())
    await swarm.turn(swarm.new_leader())
    newer = replace(swarm.cluster(), worker_token="n" * 25)
    swarm.quicker(lambda: newer)
    leader = swarm.new_leader()
    await leader.step()
    rotation = swarm.cluster().rotation
    assert rotation is not None
    assert (rotation.phase, swarm.cluster().worker_token) == (RotationPhase.TRUST, "n" * 25)
    await leader.step()
    rotation = swarm.cluster().rotation
    assert rotation is not None
    assert rotation.phase is RotationPhase.ISSUE
