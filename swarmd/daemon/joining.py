"""Join a swarm: hold its root certificate against the token, then ask for a certificate of one's own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from swarmd.daemon.state import NodeMemory
from swarmd.model.errors import Denied, Invalid, SwarmError, Unavailable
from swarmd.model.states import Role
from swarmd.node.agent.core.remotes import Remote
from swarmd.rpc.peer_client import ask_to_join
from swarmd.rpc.v1 import peer_pb2
from swarmd.security import ca, roots, tokens
from swarmd.security.identity import Credentials, joiner_context

T = TypeVar("T")

TIMEOUT = 20.0
DEFAULT_PORT, MAX_PORT = 2377, 65535


class Joined(msgspec.Struct, frozen=True):
    """What a manager gave; ``managers``: node id -> "ip:port" of their cluster ports."""

    credentials: Credentials
    node_id: str
    cluster_id: str
    role: Role
    managers: dict[str, str]


class Joiner:
    """Remembers the key of a join that came to no good end: the next try with that token is the same join.

    So a token that may be used once is not used up by an answer that was lost on its way.
    """

    def __init__(self) -> None:
        self._token = ""
        self._key = b""

    async def join(self, token_text: str, remotes: list[str]) -> Joined:
        """Raises SwarmError as :func:`join` does."""
        again = self._key and token_text == self._token
        if not again:
            self._token, self._key = token_text, ca.new_key()
        try:
            return await join(token_text, remotes, self._key)
        except Denied:
            self.done()
            if not again:
                raise
        return await self.join(token_text, remotes)  # the node of that key is at work by now, or was removed

    def done(self) -> None:
        """This node has joined; what it joins next is another join."""
        self._token, self._key = "", b""


async def join(token_text: str, remotes: list[str], key: bytes | None = None) -> Joined:
    """Try the managers in turn.  ``key``: PEM; the same one again is the same join.

    Raises SwarmError: the last one's answer, or why none answered.
    """
    token = tokens.parse_token(token_text)
    if not remotes:
        raise Invalid("the address of a manager is needed: swarm join --token TOKEN HOST:PORT")
    own = key or ca.new_key()
    return await _first_of(remotes, lambda host, port: _join_one(token, host, port, own))


async def ask_managers(
    remotes: list[str], request: peer_pb2.JoinRequest, bundle: bytes
) -> peer_pb2.JoinReply:
    """One request on the join lane of the first manager that answers, over a connection verified with
    ``bundle``.  Raises SwarmError: the last one's answer, or why none answered."""
    if not remotes:
        raise Unavailable("no manager of the swarm is known to this node")
    return await _first_of(remotes, lambda host, port: _ask(host, port, joiner_context(bundle), request))


async def _first_of(remotes: list[str], ask: Callable[[str, int], Awaitable[T]]) -> T:
    problem: SwarmError | None = None
    for remote in remotes:
        host, port = _host_port(remote)
        try:
            async with asyncio.timeout(TIMEOUT):
                return await ask(host, port)
        except TimeoutError:
            problem = Unavailable(f"the manager at {remote} did not answer within {TIMEOUT:.0f} s")
        except ssl.SSLError as error:
            problem = Unavailable(f"no secure connection to {remote}: {error.reason or error}")
        except (OSError, UnicodeError) as error:  # UnicodeError: what no host can be called
            why = error.strerror if isinstance(error, OSError) else None
            problem = Unavailable(f"cannot reach a manager at {remote}: {why or error}")
        except Unavailable as error:
            problem = error
    assert problem is not None
    raise problem


def joiner_memory(joined: Joined, *, address: str, listen: str, availability: str, chosen: str) -> NodeMemory:
    """What a node that has joined remembers at first.  ``availability`` "": the token says."""
    managers = tuple(
        Remote(node_id, raft_address.rpartition(":")[0], raft_address)
        for node_id, raft_address in joined.managers.items()
    )
    return NodeMemory(
        node_id=joined.node_id,
        cluster_id=joined.cluster_id,
        address=address,
        listen=listen,
        availability=availability,
        managers=managers,
        chosen=chosen,
    )


async def _join_one(token: tokens.TokenText, host: str, port: int, key: bytes) -> Joined:
    untrusted = await _ask(host, port, joiner_context(None), peer_pb2.JoinRequest())
    root = untrusted.root_ca_pem
    if tokens.ca_digest(root) != token.ca_digest:
        raise Denied(
            f"remote CA does not match fingerprint. Expected: {token.ca_digest}: "
            "the token is of another swarm than the manager at this address"
        )
    request = peer_pb2.JoinRequest(token_secret=token.secret, csr_pem=ca.new_request(key))
    reply = await _ask(host, port, joiner_context(root), request)
    credentials = Credentials(key=key, certificate=reply.certificate_pem, root=root)
    if not roots.leads_to(credentials.certificate, root):
        raise Denied("the certificate received is not signed by the swarm's root")
    if not ca.is_key_of(key, credentials.certificate):
        raise Denied("the certificate received is for another key than this node's")
    identity = credentials.identity
    return Joined(
        credentials=credentials,
        node_id=identity.node_id,
        cluster_id=identity.cluster_id,
        role=identity.role,
        managers={member.node_id: member.address for member in reply.managers},
    )


async def _ask(
    host: str, port: int, context: ssl.SSLContext, request: peer_pb2.JoinRequest
) -> peer_pb2.JoinReply:
    name = ca.role_unit(Role.MANAGER)
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    try:
        return await ask_to_join(reader, writer, request)
    finally:
        writer.close()


def _host_port(remote: str) -> tuple[str, int]:
    host, colon, port = remote.rpartition(":")
    if not colon or remote.endswith("]") or (":" in host.strip("[]") and not host.endswith("]")):
        host, port = remote, str(DEFAULT_PORT)  # a bare IPv6 address is full of colons, and has no port
    valid = len(port) <= 5 and port.isascii() and port.isdigit() and 1 <= int(port) <= MAX_PORT
    if not valid or not host.strip("[]"):
        raise Invalid(f'remote address "{remote}" has no valid host and port: write HOST:{DEFAULT_PORT}')
    return host.strip("[]"), int(port)
