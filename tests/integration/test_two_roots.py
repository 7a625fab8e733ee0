"""Two roots at a time against real TLS: who speaks to whom while the root changes, and what a port shows."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from swarmd.model.states import Role
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.security import ca, roots
from swarmd.security.identity import (
    Contexts,
    Credentials,
    client_context,
    grpc_channel_credentials,
    grpc_server_credentials,
)
from swarmd.security.issuing import Signer
from tests.unit.test_roots import certificate as made_elsewhere
from tests.unit.test_roots import pem_of

HOUR = 3600.0


class Roots:
    """The certificates and bundles there are while the root changes."""

    def __init__(self, curve: str) -> None:
        now = time.time()
        old, old_key = ca.new_root(now)
        key = ec.generate_private_key(ec.SECP384R1() if curve == "P-384" else ec.SECP256R1())
        begin = (now - 1.8e9) / 86400
        given = made_elsewhere(key, days=(begin - 1, begin + 30), own_identifier=b"its own way")
        new, new_key = roots.given_root(given, pem_of(key), now)
        cross = roots.cross_sign(new, by_pem=old, by_key_pem=old_key, now=now)
        self.bundles = {"old": old, "both": old + new, "new": new}
        self.signers = {"old": Signer(old, old_key), "new": Signer(new, new_key, cross)}

    def credentials(self, signer: str, bundle: str, node_id: str = "m2") -> Credentials:
        key = ca.new_key()
        certificate = self.signers[signer].sign(
            ca.new_request(key), ca.Identity(node_id, Role.MANAGER, "c1"), now=time.time(), life=HOUR
        )
        return Credentials(key=key, certificate=certificate, root=self.bundles[bundle])


PAIRS = [
    ("old", "old", "new", "both", True),
    ("old", "old", "new", "new", False),
    ("old", "both", "new", "both", True),
    ("old", "both", "new", "new", False),
    ("new", "both", "new", "new", True),
    ("new", "new", "new", "new", True),
    ("new", "old", "new", "both", True),
    ("old", "old", "old", "both", True),
]
"""Certificate and bundle of one end, of the other, and whether they speak to each other."""


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
@pytest.mark.parametrize(("signer", "bundle", "other_signer", "other_bundle", "works"), PAIRS)
async def test_two_nodes_speak_whatever_each_knows_of_the_two_roots(
    tmp_path: Path, curve: str, signer: str, bundle: str, other_signer: str, other_bundle: str, works: bool
) -> None:
    """On both ports, and each end as the server once."""
    made = Roots(curve)
    ends = made.credentials(signer, bundle), made.credentials(other_signer, other_bundle)
    for server, client in (ends, ends[::-1]):
        assert await over_ssl(server, client, tmp_path) == works
        assert await over_grpc(server, client) == works


async def over_ssl(server: Credentials, client: Credentials, scratch: Path) -> bool:
    """Whether a byte comes back on a connection as managers make it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        writer.close()

    context = Contexts(lambda: server, scratch).server()
    context.verify_mode = ssl.CERT_REQUIRED
    listening = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(client, scratch), server_hostname="m2"
        )
        writer.write(b"x")
        answer = await reader.read(1)
        writer.transport.abort()
    except OSError:
        return False
    finally:
        listening.close()
    return answer == b"x"


async def over_grpc(server: Credentials, client: Credentials) -> bool:
    """Whether a call gets through to a node port."""

    class Peer(agent_pb2_grpc.NodePeerServicer):
        async def GetManifest(self, request: Any, context: Any) -> Any:  # noqa: N802
            return agent_pb2.GetManifestResponse(data=b"x")

    node_port = grpc.aio.server()
    agent_pb2_grpc.add_NodePeerServicer_to_server(Peer(), node_port)  # type: ignore[abstract]
    port = node_port.add_secure_port("127.0.0.1:0", grpc_server_credentials(lambda: server))
    await node_port.start()
    options = (("grpc.ssl_target_name_override", "m2"),)
    try:
        async with grpc.aio.secure_channel(
            f"127.0.0.1:{port}", grpc_channel_credentials(client), options=options
        ) as channel:
            stub = agent_pb2_grpc.NodePeerStub(channel)
            try:
                await stub.GetManifest(agent_pb2.GetManifestRequest(), timeout=60)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True
    finally:
        await node_port.stop(None)


async def test_a_port_shows_a_new_certificate_at_the_next_handshake_and_is_given_none_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gRPC replaces what it is given while other handshakes of its threads use it: as seldom as can be."""
    made = Roots("P-256")
    shown = made.credentials("old", "old")
    given: list[object] = []
    make = grpc.ssl_server_certificate_configuration

    def counted(*arguments: Any, **named: Any) -> Any:
        given.append(arguments)
        return make(*arguments, **named)

    monkeypatch.setattr(grpc, "ssl_server_certificate_configuration", counted)
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", grpc_server_credentials(lambda: shown))
    await server.start()

    async def trusts(root: str) -> bool:
        """Whether a node that trusts that root alone gets through the handshake."""
        options = (("grpc.ssl_target_name_override", "m2"), ("grpc.use_local_subchannel_pool", 1))
        own = grpc_channel_credentials(made.credentials("new", root))
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", own, options=options) as channel:
            try:
                await agent_pb2_grpc.NodePeerStub(channel).GetManifest(
                    agent_pb2.GetManifestRequest(), timeout=60
                )
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNIMPLEMENTED
        return True

    try:
        shown = made.credentials("old", "both")
        assert [await trusts("old") for _ in range(3)] == [True] * 3
        assert not await trusts("new")
        shown = made.credentials("new", "both")
        assert [await trusts("new") for _ in range(3)] == [True] * 3
        assert len(given) == 3, "the first, and the two others once each"
    finally:
        await server.stop(None)
