"""Who gets a certificate: tokens decide at the join, the node's row from then on."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from swarmd.manager.authority import Authority, Issued
from swarmd.manager.authority_server import JoinLane
from swarmd.model.errors import Denied, Invalid, Unavailable
from swarmd.model.objects import Cluster, Node, NodeDescription, RemovedNode
from swarmd.model.replace import replace
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Role
from swarmd.rpc.v1 import agent_pb2, peer_pb2
from swarmd.security import ca
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

    async def join(self, secret: str = WORKER_SECRET, node_id: str = "") -> Issued:
        request = ca.new_request(ca.new_key())
        return await self.authority.join(secret, request, node_id=node_id, address="10.0.0.7")

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
    assert ca.is_signed_by(issued.certificate, issued.root_ca)
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


async def test_a_key_that_others_could_not_use_is_not_certified(office: Office) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(Invalid, match="P-256"):
        await office.authority.join(WORKER_SECRET, request.public_bytes(serialization.Encoding.PEM))


async def test_a_retry_with_the_id_it_was_given_is_the_same_join(office: Office) -> None:
    first = await office.join()
    again = await office.join(node_id=first.node_id)
    assert again.node_id == first.node_id
    assert len(office.store.all(Node)) == 1


async def test_a_token_is_no_proof_of_being_a_node_that_is_at_work(office: Office) -> None:
    manager = await office.join(MANAGER_SECRET)
    with pytest.raises(Denied, match="part of this swarm already"):
        await office.join(WORKER_SECRET, node_id=manager.node_id)
    worker = await office.join()
    row = office.node(worker.node_id)
    await office.put(replace(row, description=NodeDescription(hostname="w")))
    with pytest.raises(Denied, match=f"node {worker.node_id} is part of this swarm already"):
        await office.join(node_id=worker.node_id)


async def test_an_id_that_nobody_has_is_not_given_to_whoever_asks(office: Office) -> None:
    assert (await office.join(node_id="ofmychoice")).node_id != "ofmychoice"


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
    with pytest.raises(Denied, match="was removed from the swarm"):
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
