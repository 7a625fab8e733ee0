"""Who gets a certificate: tokens decide at the join, the node's row from then on."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from swarmd.manager.authority import Authority, Issued
from swarmd.manager.authority_server import JoinLane
from swarmd.manager.core import joins
from swarmd.model.errors import Denied, Invalid, Refused, Unavailable
from swarmd.model.objects import Cluster, JoinToken, Node, NodeCertificate, NodeDescription, RemovedNode
from swarmd.model.replace import replace
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Availability, Role
from swarmd.rpc.v1 import agent_pb2, peer_pb2
from swarmd.security import ca, proof, roots, tokens
from swarmd.store.core.transaction import Delete, Put
from tests.unit.test_control_bed import Bed

WORKER_SECRET, MANAGER_SECRET = "w" * 25, "m" * 25


class Office(Bed):
    """A swarm with its authority."""

    def __init__(self) -> None:
        super().__init__()
        self.root, self.root_key = ca.new_root(self.clock.now())
        self.authority = Authority(self.store, self.clock, self.new_id)

    async def open(self) -> None:
        cluster = Cluster(
            id="c1",
            root_ca=self.root,
            ca_key=self.root_key,
            worker_token=WORKER_SECRET,
            manager_token=MANAGER_SECRET,
        )
        await self.put(cluster)

    async def join(self, secret: str = WORKER_SECRET, key: bytes = b"") -> Issued:
        request = ca.new_request(key or ca.new_key())
        return await self.authority.join(secret, request, address="10.0.0.7")

    async def token(self, **fields: Any) -> str:
        """The secret of a new token."""
        secret = f"secret{self.new_id()}"
        row = JoinToken(id=self.new_id(), secret_hash=tokens.secret_hash(secret), **fields)
        await self.put(row)
        return secret

    def uses(self) -> int:
        (row,) = self.store.all(JoinToken)
        return row.uses

    def renew(self, node_id: str) -> Role:
        issued = self.authority.renew(node_id, ca.new_request(ca.new_key()))
        identity = ca.identity_of(issued.certificate)
        assert (identity.node_id, identity.role) == (node_id, issued.role)
        return issued.role

    def node(self, node_id: str) -> Node:
        row = self.store.get(Node, node_id)
        assert row is not None
        return row


@pytest.fixture
async def office() -> Office:
    office = Office()
    await office.open()
    return office


@pytest.mark.parametrize(("secret", "role"), [(WORKER_SECRET, Role.WORKER), (MANAGER_SECRET, Role.MANAGER)])
async def test_a_token_gives_its_role_and_a_row_before_the_certificate(
    office: Office, secret: str, role: Role
) -> None:
    issued = await office.join(secret)
    assert ca.identity_of(issued.certificate) == ca.Identity(issued.node_id, role, "c1")
    assert roots.leads_to(issued.certificate, issued.root_ca)
    row = office.node(issued.node_id)
    assert (row.role, row.spec.role, row.number, row.status.address) == (role, role, 1, "10.0.0.7")


@pytest.mark.parametrize("secret", ["", "x" * 25, WORKER_SECRET[:-1], WORKER_SECRET + "w"])
async def test_a_wrong_token_gives_nothing(office: Office, secret: str) -> None:
    with pytest.raises(Denied, match="A valid join token is necessary to join this cluster"):
        await office.join(secret)
    assert list(office.store.all(Node)) == []


async def test_before_the_first_rows_nobody_joins() -> None:
    with pytest.raises(Unavailable, match="not initialised yet"):
        await Office().join()


@pytest.mark.parametrize("request_pem", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\nxx\n"])
async def test_an_unreadable_request_makes_no_row(office: Office, request_pem: bytes) -> None:
    with pytest.raises(Invalid, match="certificate request"):
        await office.authority.join(WORKER_SECRET, request_pem)
    assert list(office.store.all(Node)) == []


async def test_nothing_of_a_stranger_without_a_token_is_parsed(office: Office) -> None:
    with pytest.raises(Denied, match="A valid join token is necessary"):
        await office.authority.join("wrong", b"no request at all")


async def test_a_key_that_others_could_not_use_is_not_certified(office: Office) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(Invalid, match="P-256"):
        await office.authority.join(WORKER_SECRET, request.public_bytes(serialization.Encoding.PEM))


async def test_the_same_key_asking_again_is_the_same_join(office: Office) -> None:
    key = ca.new_key()
    first, again = await office.join(key=key), await office.join(key=key)
    assert again.node_id == first.node_id
    assert len(office.store.all(Node)) == 1
    assert (await office.join()).node_id != first.node_id


async def test_a_key_is_no_proof_of_being_a_node_that_is_at_work(office: Office) -> None:
    key = ca.new_key()
    worker = await office.join(key=key)
    with pytest.raises(Denied, match=f"node {worker.node_id} is part of this swarm already"):
        await office.join(MANAGER_SECRET, key)
    row = office.node(worker.node_id)
    await office.put(replace(row, description=NodeDescription(hostname="w")))
    with pytest.raises(Denied, match=f"node {worker.node_id} is part of this swarm already"):
        await office.join(key=key)


async def test_two_managers_asked_with_one_key_at_the_same_moment_make_one_node(office: Office) -> None:
    key = ca.new_key()
    other: list[Issued] = []

    async def first() -> None:
        other.append(await office.join(key=key))

    office.proposer.first.append(first)
    assert (await office.join(key=key)).node_id == other[0].node_id
    assert len(office.store.all(Node)) == 1


# -- tokens made for some nodes ------------------------------------------------------------------


async def test_a_token_gives_its_role_labels_and_availability(office: Office) -> None:
    secret = await office.token(
        role=Role.MANAGER, labels={"zone": "a"}, availability=Availability.DRAIN, max_uses=5
    )
    row = office.node((await office.join(secret)).node_id)
    assert row.spec == NodeSpec(role=Role.MANAGER, labels={"zone": "a"}, availability=Availability.DRAIN)
    assert (row.role, office.uses()) == (Role.MANAGER, 1)
    assert row.join_token == next(iter(office.store.all(JoinToken))).id


async def test_a_token_for_one_node_lets_one_node_in(office: Office) -> None:
    secret = await office.token(max_uses=1)
    await office.join(secret)
    with pytest.raises(Denied, match="used as often as it may be"):
        await office.join(secret)
    assert (office.uses(), len(office.store.all(Node))) == (1, 1)


async def test_two_joins_at_the_same_moment_cannot_share_the_last_use(office: Office) -> None:
    secret = await office.token(max_uses=1)

    async def quicker() -> None:
        await office.join(secret)

    office.proposer.first.append(quicker)
    with pytest.raises(Denied, match="used as often as it may be"):
        await office.join(secret)
    assert (office.uses(), len(office.store.all(Node))) == (1, 1)


async def test_a_join_whose_answer_was_lost_costs_no_second_use(office: Office) -> None:
    secret, key = await office.token(max_uses=1), ca.new_key()
    first = await office.join(secret, key)
    assert (await office.join(secret, key)).node_id == first.node_id
    assert office.uses() == 1


async def test_a_token_is_good_until_the_second_it_expires(office: Office) -> None:
    secret = await office.token(expires_at=office.clock.now() + 60)
    office.clock.advance(59)
    await office.join(secret)
    office.clock.advance(1)
    with pytest.raises(Denied, match="this join token has expired"):
        await office.join(secret)


async def test_who_has_no_token_learns_nothing_of_those_there_are(office: Office) -> None:
    secret = await office.token(max_uses=1, uses=1, expires_at=1.0)
    for wrong in (secret[:-1], tokens.secret_hash(secret), ""):
        with pytest.raises(Denied) as caught:
            await office.join(wrong)
        assert str(caught.value) == "A valid join token is necessary to join this cluster"


async def test_a_script_that_joins_in_circles_does_not_use_up_the_numbers(office: Office) -> None:
    heard = NodeDescription(hostname="w")
    for number in range(1, joins.MAX_UNHEARD + 1):
        await office.put(Node(id=f"n{number}", number=number))
    with pytest.raises(Refused, match="1000 nodes have joined this swarm and never been heard of"):
        await office.join()
    await office.put(replace(office.node("n7"), description=heard))
    await office.join()


async def test_each_node_has_a_number_of_its_own_and_freed_ones_are_used_again(office: Office) -> None:
    joined = [await office.join() for _ in range(3)]
    middle = office.node(joined[1].node_id)
    await office.store.commit([Delete(Node, middle.id, middle.version)])
    joined.append(await office.join())
    assert sorted(row.number for row in office.store.all(Node)) == [1, 2, 3]


async def test_two_joins_at_the_same_moment_get_two_numbers(office: Office) -> None:
    office.quicker(lambda: Node(id="quick", number=1))
    issued = await office.join()
    assert office.node(issued.node_id).number == 2
    assert ca.identity_of(issued.certificate).node_id == issued.node_id


async def test_a_renewal_follows_the_row(office: Office) -> None:
    node_id = (await office.join()).node_id
    assert office.renew(node_id) is Role.WORKER
    await office.put(replace(office.node(node_id), spec=NodeSpec(role=Role.MANAGER)))
    assert office.renew(node_id) is Role.MANAGER, "promoted: the certificate comes first"


async def test_a_demoted_manager_keeps_its_certificate_until_it_left_the_group(office: Office) -> None:
    node_id = (await office.join(MANAGER_SECRET)).node_id
    await office.put(replace(office.node(node_id), spec=NodeSpec(role=Role.WORKER)))
    assert office.renew(node_id) is Role.MANAGER
    await office.put(replace(office.node(node_id), role=Role.WORKER))
    assert office.renew(node_id) is Role.WORKER


async def test_strangers_and_removed_nodes_renew_nothing(office: Office) -> None:
    with pytest.raises(Denied, match="node nobody is not part of this swarm"):
        office.renew("nobody")
    node_id = (await office.join()).node_id
    row = office.node(node_id)
    await office.store.commit([Delete(Node, node_id, row.version), Put(RemovedNode(id=node_id, until=1.0))])
    with pytest.raises(Denied, match="is not part of this swarm any more"):
        office.renew(node_id)


async def test_certificates_live_as_long_as_the_swarm_says(office: Office) -> None:
    start, end = ca.validity((await office.join()).certificate)
    assert end - office.clock.now() == pytest.approx(90 * 86400.0)
    assert start < office.clock.now(), "clocks differ a little"


# -- the join lane -------------------------------------------------------------------------------


def lane(office: Office, *, leads: bool = True) -> JoinLane:
    async def leader() -> None:
        if not leads:
            raise Unavailable("no leader")

    managers = [agent_pb2.ManagerPeer(node_id="m1", address="10.0.0.1", raft_address="10.0.0.1:2377")]
    return JoinLane(office.authority, leader, lambda: office.root, lambda: managers)


async def test_anybody_may_have_the_root_certificate(office: Office) -> None:
    reply = await lane(office, leads=False).answer(peer_pb2.JoinRequest(), "10.0.0.7")
    assert reply == peer_pb2.JoinReply(root_ca_pem=office.root)


async def test_a_joiner_learns_who_it_is_and_who_the_managers_are(office: Office) -> None:
    request = peer_pb2.JoinRequest(token_secret=WORKER_SECRET, csr_pem=ca.new_request(ca.new_key()))
    reply = await lane(office).answer(request, "10.0.0.7")
    assert (reply.cluster_id, reply.role, reply.error) == ("c1", "worker", "")
    assert [(one.node_id, one.address) for one in reply.managers] == [("m1", "10.0.0.1:2377")]
    assert office.node(reply.node_id).status.address == "10.0.0.7"


@pytest.mark.parametrize(
    ("leads", "secret", "kind"), [(True, "x" * 25, "denied"), (False, WORKER_SECRET, "unavailable")]
)
async def test_errors_travel_in_the_reply(office: Office, leads: bool, secret: str, kind: str) -> None:
    request = peer_pb2.JoinRequest(token_secret=secret, csr_pem=ca.new_request(ca.new_key()))
    reply = await lane(office, leads=leads).answer(request, "10.0.0.7")
    assert (reply.error_kind, reply.certificate_pem) == (kind, b"")
    assert reply.error


# -- a certificate that has expired ---------------------------------------------------------------

DAYS = 86400.0


class Sleeper:
    """A node that was off for longer than its certificate lives."""

    def __init__(self, office: Office, issued: Issued, key: bytes) -> None:
        self.office, self.node_id, self.certificate, self.key = (
            office,
            issued.node_id,
            issued.certificate,
            key,
        )

    def renew(self, *, signed_by: bytes = b"", shown: bytes = b"") -> Issued:
        request = ca.new_request(ca.new_key())
        signature = proof.sign_request(request, signed_by or self.key)
        return self.office.authority.renew_expired(request, shown or self.certificate, signature)


@pytest.fixture
async def sleeper(office: Office) -> Sleeper:
    key = ca.new_key()
    issued = await office.authority.join(WORKER_SECRET, ca.new_request(key), address="10.0.0.7")
    row = office.node(issued.node_id)
    used = NodeCertificate(valid_from=ca.validity(issued.certificate)[0])
    await office.put(replace(row, status=replace(row.status, certificate=used)))
    office.clock.advance(100 * DAYS)
    assert ca.validity(issued.certificate)[1] < office.clock.now()
    return Sleeper(office, issued, key)


async def test_an_expired_certificate_is_renewed_for_whoever_has_its_key(
    office: Office, sleeper: Sleeper
) -> None:
    fresh = sleeper.renew().certificate
    assert ca.identity_of(fresh) == ca.Identity(sleeper.node_id, Role.WORKER, "c1")
    assert ca.validity(fresh)[1] > office.clock.now() + 89 * DAYS


async def test_it_brings_the_role_that_the_row_has_now(office: Office, sleeper: Sleeper) -> None:
    await office.put(replace(office.node(sleeper.node_id), spec=NodeSpec(role=Role.MANAGER)))
    assert sleeper.renew().role is Role.MANAGER


async def test_without_the_key_the_certificate_renews_nothing(sleeper: Sleeper) -> None:
    with pytest.raises(Denied, match="not signed with the key of the certificate shown"):
        sleeper.renew(signed_by=ca.new_key())


async def test_the_signature_of_one_request_is_none_of_another(office: Office, sleeper: Sleeper) -> None:
    mine, other = ca.new_request(ca.new_key()), ca.new_request(ca.new_key())
    with pytest.raises(Denied, match="not signed with the key"):
        office.authority.renew_expired(other, sleeper.certificate, proof.sign_request(mine, sleeper.key))


async def test_a_certificate_of_another_root_or_swarm_renews_nothing(
    office: Office, sleeper: Sleeper
) -> None:
    for root, key, swarm in (
        (*ca.new_root(office.clock.now()), "c1"),
        (office.root, office.root_key, "c2"),
    ):
        shown = ca.sign(
            ca.new_request(sleeper.key),
            ca.Identity(sleeper.node_id, Role.WORKER, swarm),
            root_pem=root,
            root_key_pem=key,
            now=office.clock.now() - DAYS,
            life=3600.0,
        )
        with pytest.raises(Denied, match=r"not signed by this swarm's root|of another swarm"):
            sleeper.renew(shown=shown)


async def test_a_removed_node_does_not_come_back_by_it(office: Office, sleeper: Sleeper) -> None:
    row = office.node(sleeper.node_id)
    await office.store.commit([Delete(Node, row.id, row.version), Put(RemovedNode(id=row.id, until=1.0))])
    with pytest.raises(Denied, match="not part of this swarm any more"):
        sleeper.renew()


async def test_a_certificate_that_was_replaced_long_ago_renews_nothing(
    office: Office, sleeper: Sleeper
) -> None:
    """Whoever copied a disk once is not that node for ever."""
    fresh = sleeper.renew().certificate
    row = office.node(sleeper.node_id)
    used = NodeCertificate(valid_from=ca.validity(fresh)[0])
    await office.put(replace(row, status=replace(row.status, certificate=used)))
    with pytest.raises(Denied, match="has had a newer certificate than the one shown"):
        sleeper.renew()


async def test_a_manager_certifies_itself_for_what_its_row_says(office: Office) -> None:
    node_id = (await office.join(MANAGER_SECRET)).node_id
    since = office.clock.now() - 50 * DAYS
    own = office.authority.renew_own(node_id, ca.new_request(ca.new_key()), since)
    assert (own.role, ca.validity(own.certificate)[0]) == (Role.MANAGER, since)
    with pytest.raises(Denied):
        office.authority.renew_own("nobody", ca.new_request(ca.new_key()), since)


async def test_the_join_lane_renews_here_or_at_the_leader(office: Office, sleeper: Sleeper) -> None:
    async def leads_itself() -> None:
        return None

    lane = JoinLane(office.authority, leads_itself, lambda: office.root, list)
    request = ca.new_request(ca.new_key())
    shown = peer_pb2.RenewalProof(
        certificate_pem=sleeper.certificate, signature=proof.sign_request(request, sleeper.key)
    )
    reply = await lane.answer(peer_pb2.JoinRequest(csr_pem=request, renewal=shown), "10.0.0.7")
    assert (reply.error, reply.node_id) == ("", sleeper.node_id)
    shown.signature = b"no"
    refused = await lane.answer(peer_pb2.JoinRequest(csr_pem=request, renewal=shown), "10.0.0.7")
    assert (refused.error_kind, refused.certificate_pem) == ("denied", b"")
