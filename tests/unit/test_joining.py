"""Joining through a real cluster port: the root is held against the token before anything is trusted."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from swarmd.daemon.joining import Joiner, join
from swarmd.kit.ids import new_id
from swarmd.manager.authority import Authority
from swarmd.manager.authority_server import JoinLane
from swarmd.model.errors import Denied, Invalid, SwarmError, Unavailable
from swarmd.model.objects import Cluster, JoinToken, Node, NodeDescription
from swarmd.model.replace import replace
from swarmd.model.states import Role
from swarmd.rpc.peer import PeerServer
from swarmd.rpc.v1 import agent_pb2, peer_pb2
from swarmd.security import ca, tokens
from swarmd.security.identity import Credentials, server_context
from tests.unit.test_control_bed import Bed

WORKER_SECRET, MANAGER_SECRET = "w" * 25, "m" * 25


class Swarm(Bed):
    """A swarm of one manager with a real cluster port on loopback."""

    def __init__(self, scratch: Path) -> None:
        super().__init__()
        now = time.time()
        self.root, self.root_key = ca.new_root(now)
        key = ca.new_key()
        certificate = ca.sign(
            ca.new_request(key),
            ca.Identity("m1", Role.MANAGER, "c1"),
            root_pem=self.root,
            root_key_pem=self.root_key,
            now=now,
            life=7200,
        )
        self.credentials = Credentials(key=key, certificate=certificate, root=self.root)
        managers = [agent_pb2.ManagerPeer(node_id="m1", address="127.0.0.1", raft_address="127.0.0.1:2377")]
        lane = JoinLane(
            Authority(self.store, self.clock, new_id), self.leader, lambda: self.root, lambda: managers
        )
        self.server = PeerServer(
            node_id="m1",
            cluster_id=lambda: "c1",
            context=lambda: server_context(self.credentials, scratch),
            on_join=self.answer,
        )
        self.lane = lane
        self.loses_answers = 0
        self.has_leader = True
        self.address = ""

    async def answer(self, request: peer_pb2.JoinRequest, address: str) -> peer_pb2.JoinReply:
        reply = await self.lane.answer(request, address)
        if request.csr_pem and self.loses_answers:
            self.loses_answers -= 1
            raise ConnectionError("the answer is lost")
        return reply

    async def leader(self) -> None:
        if not self.has_leader:
            raise Unavailable("The swarm does not have a leader.")

    async def start(self) -> None:
        await self.put(
            Cluster(
                id="c1",
                root_ca=self.root,
                ca_key=self.root_key,
                worker_token=WORKER_SECRET,
                manager_token=MANAGER_SECRET,
            )
        )
        self.address = f"127.0.0.1:{await self.server.start('127.0.0.1', 0)}"

    def token(self, secret: str = WORKER_SECRET) -> str:
        return tokens.make_token(self.root, secret)


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    swarm = Swarm(tmp_path)
    await swarm.start()
    yield swarm
    await swarm.server.close()


@pytest.fixture
def closed() -> Iterator[str]:
    """The address of a port where nobody listens, and nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


async def refusal(token: str, *remotes: str) -> SwarmError:
    async with asyncio.timeout(60):
        with pytest.raises(SwarmError) as caught:
            await join(token, list(remotes))
    return caught.value


@pytest.mark.parametrize(("secret", "role"), [(WORKER_SECRET, Role.WORKER), (MANAGER_SECRET, Role.MANAGER)])
async def test_the_right_token_gives_a_certificate_of_its_role(swarm: Swarm, secret: str, role: Role) -> None:
    joined = await join(swarm.token(secret), [swarm.address])
    assert (joined.cluster_id, joined.role) == ("c1", role)
    assert joined.credentials.identity == ca.Identity(joined.node_id, role, "c1")
    assert joined.credentials.root == swarm.root
    assert ca.is_key_of(joined.credentials.key, joined.credentials.certificate)
    assert joined.managers == {"m1": "127.0.0.1:2377"}
    row = swarm.store.get(Node, joined.node_id)
    assert row is not None
    assert row.status.address == "127.0.0.1"


async def test_a_token_of_another_swarm_asks_for_nothing(swarm: Swarm) -> None:
    other, _ = ca.new_root(swarm.clock.now())
    error = await refusal(tokens.make_token(other, WORKER_SECRET), swarm.address)
    assert isinstance(error, Denied)
    assert f"remote CA does not match fingerprint. Expected: {tokens.ca_digest(other)}" in str(error)
    assert list(swarm.store.all(Node)) == []


async def test_a_wrong_secret_is_refused_by_the_swarm(swarm: Swarm) -> None:
    error = await refusal(swarm.token("x" * 25), swarm.address)
    assert (type(error), str(error)) == (Denied, "A valid join token is necessary to join this cluster")


async def test_a_swarm_without_a_leader_says_so(swarm: Swarm) -> None:
    swarm.has_leader = False
    error = await refusal(swarm.token(), swarm.address)
    assert (type(error), str(error)) == (Unavailable, "The swarm does not have a leader.")


async def test_who_cannot_be_reached_is_named(swarm: Swarm, closed: str) -> None:
    error = await refusal(swarm.token(), closed)
    assert isinstance(error, Unavailable)
    assert closed in str(error)


async def test_another_manager_is_asked_when_the_first_cannot_be_reached(swarm: Swarm, closed: str) -> None:
    assert (await join(swarm.token(), [closed, swarm.address])).cluster_id == "c1"


async def test_a_server_that_speaks_no_tls_is_no_manager(swarm: Swarm) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error = await refusal(swarm.token(), address)
    assert isinstance(error, Unavailable)
    assert address in str(error)


async def test_an_impostor_with_the_right_root_but_no_key_gets_no_secret(
    swarm: Swarm, tmp_path: Path
) -> None:
    impostor = Swarm(tmp_path / "impostor")
    impostor.root = swarm.root  # the root is public: everybody may have it
    await impostor.start()
    try:
        error = await refusal(swarm.token(), impostor.address)
    finally:
        await impostor.server.close()
    assert isinstance(error, Unavailable)
    assert "no secure connection" in str(error)
    assert list(impostor.store.all(Node)) == []


@pytest.mark.parametrize("token", ["", "notatoken", "SWMTKN-1-x-y"])
async def test_what_is_no_token_is_said_before_anybody_is_asked(token: str) -> None:
    error = await refusal(token, "127.0.0.1:1")
    assert (type(error), str(error)) == (Invalid, "invalid join token")


@pytest.mark.parametrize(
    "remote", ["host:", "host:abc", "host:0", "host:70000", "host:²", ":2377", "host:" + "9" * 5000, ""]
)
async def test_an_address_that_is_none_is_quoted(swarm: Swarm, remote: str) -> None:
    error = await refusal(swarm.token(), remote)
    assert isinstance(error, Invalid)
    assert f'"{remote}"' in str(error)


async def test_a_host_that_cannot_exist_is_a_sentence(swarm: Swarm) -> None:
    error = await refusal(swarm.token(), f"a..{'b' * 70}:2377")
    assert isinstance(error, Unavailable)


async def test_somebody_has_to_be_named(swarm: Swarm) -> None:
    with pytest.raises(Invalid, match="the address of a manager is needed"):
        await join(swarm.token(), [])


@pytest.mark.parametrize("remote", ["::1", "[::1]", "[::1]:2377"])
async def test_an_ipv6_address_is_taken_with_and_without_port(swarm: Swarm, remote: str) -> None:
    assert isinstance(await refusal(swarm.token(), remote), Unavailable), "nobody listens, but it was tried"


async def single_use(swarm: Swarm) -> str:
    """A token for one node."""
    secret = "s" * 25
    await swarm.put(JoinToken(id="t1", secret_hash=tokens.secret_hash(secret), max_uses=1))
    return swarm.token(secret)


async def test_an_answer_that_is_lost_does_not_cost_the_next_try_its_token(swarm: Swarm) -> None:
    token, joiner = await single_use(swarm), Joiner()
    swarm.loses_answers = 1
    with pytest.raises(Unavailable):
        await joiner.join(token, [swarm.address])
    (row,) = swarm.store.all(Node)
    assert (await joiner.join(token, [swarm.address])).node_id == row.id
    assert len(swarm.store.all(Node)) == 1


async def test_the_next_manager_is_asked_with_the_same_key(swarm: Swarm) -> None:
    token = await single_use(swarm)
    swarm.loses_answers = 1
    joined = await join(token, [swarm.address, swarm.address])
    assert [row.id for row in swarm.store.all(Node)] == [joined.node_id]


async def test_a_key_that_has_served_its_time_is_replaced(swarm: Swarm) -> None:
    joiner = Joiner()
    first = await joiner.join(swarm.token(), [swarm.address])
    row = swarm.store.get(Node, first.node_id)
    assert row is not None
    await swarm.put(replace(row, description=NodeDescription(hostname="w")))
    second = await joiner.join(swarm.token(), [swarm.address])
    assert second.node_id != first.node_id
    joiner.done()
    third = await joiner.join(swarm.token(), [swarm.address])
    assert third.node_id != second.node_id


async def test_a_used_up_token_says_so_to_the_joiner(swarm: Swarm) -> None:
    token = await single_use(swarm)
    await join(token, [swarm.address])
    error = await refusal(token, swarm.address)
    assert isinstance(error, Denied)
    assert "used as often as it may be" in str(error)
