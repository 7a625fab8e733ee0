"""A node's part in a swarm: its identity, the node port, the working half, and the managing half while it
is a manager.

    certificate's role  ──► the managing half runs, or not
    session info        ──► the role that users want ──► a new certificate ──► the above
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import structlog

from swarmd.api.control import ControlServer, UseCases
from swarmd.api.forward import Forwarding, Leader, managers_only, not_manager
from swarmd.control.cluster import Founding
from swarmd.daemon.managing import Managing
from swarmd.daemon.renewal import renew, renewal_due
from swarmd.daemon.state import MemoryFile, NodeMemory
from swarmd.daemon.working import Machine, Working
from swarmd.kit.ids import NewId, random_fraction
from swarmd.kit.supervise import Nursery
from swarmd.manager.authority import Authority
from swarmd.manager.authority_server import AuthorityServer
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.manager.dispatcher.server import DispatcherServer
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.model.replace import replace
from swarmd.model.states import Role
from swarmd.node.peer import NodePeerServer, TaskLogs
from swarmd.rpc.channels import SERVER_OPTIONS, Channels, host_port
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc, control_pb2_grpc
from swarmd.security.identity import (
    Credentials,
    IdentityStore,
    grpc_channel_credentials,
    grpc_server_credentials,
    is_manager,
)

RELEASE_LIMIT = 15.0
"""Seconds a demoted manager waits for the others before it stops answering them."""

ROLE_RETRY = 1.0
"""Seconds between attempts to follow a new role."""

RENEW_CHECK = 60.0
"""Seconds between looks at the certificate's age."""


class Member:
    """One membership, from join or start of the daemon to leave or stop."""

    def __init__(
        self,
        machine: Machine,
        credentials: Credentials,
        identity_store: IdentityStore,
        memory: NodeMemory,
        memory_file: MemoryFile,
        *,
        logs: TaskLogs,
        new_id: NewId,
    ) -> None:
        self._machine = machine
        self._credentials = credentials
        self._identity_store = identity_store
        self._memory = memory
        self._memory_file = memory_file
        self._new_id = new_id
        self._log = structlog.get_logger()
        self._nursery = Nursery(self._report)
        self._channels = Channels(lambda: grpc_channel_credentials(self._credentials))
        self._managing: Managing | None = None
        self._wanted = credentials.identity.role
        self._role_lock = asyncio.Lock()
        self._renew_at = renewal_due(credentials, random_fraction())
        self._logs = logs
        self._server: Any = None
        self.working = Working(
            machine,
            memory=lambda: self._memory,
            remember=self._remember,
            role_wanted=self._role_wanted,
            raft_address=self._raft_address,
            channels=self._channels,
            nursery=self._nursery,
        )

    @property
    def memory(self) -> NodeMemory:
        return self._memory

    @property
    def managing(self) -> Managing | None:
        """The managing half, while this node is a manager."""
        return self._managing

    # -- life ------------------------------------------------------------------------------------

    async def start(self, *, founding: Founding | None = None, force_new: bool = False) -> None:
        """Open the node port, take part.  Raises SwarmError when a port or the disk cannot be used."""
        await self._open_node_port()
        if is_manager(self._credentials):
            await self._start_managing(bootstrap=founding is not None, force_new=force_new)
        if founding is not None and self._managing is not None:
            cluster = await self._managing.found(founding)
            self._remember(replace(self._memory, founding=None, gossip_key=cluster.gossip_key, number=1))
        await self.working.start()
        self._nursery.start("certificate", self._keep_certificate())

    async def stop(self, *, leave: bool = False) -> None:
        """Stop taking part; with ``leave`` for good: every task of this node ends first."""
        await self.working.stop(leave=leave)
        if self._managing is not None:
            await self._managing.stop()
        await self._nursery.close()
        if self._server is not None:
            await self._server.stop(0.5)
        await self._channels.close()

    async def _open_node_port(self) -> None:
        server = grpc.aio.server(
            interceptors=[
                Forwarding(
                    self.find_leader, self._machine.clock, check_caller=managers_only(self._cluster_id)
                )
            ],
            options=SERVER_OPTIONS,
        )
        agent_pb2_grpc.add_NodePeerServicer_to_server(
            NodePeerServer(self._machine.images, self._logs, self._cluster_id), server
        )
        control_pb2_grpc.add_ControlServicer_to_server(ControlServer(self.use_cases), server)
        agent_pb2_grpc.add_DispatcherServicer_to_server(
            DispatcherServer(
                cluster_id=self._cluster_id,
                current=self._dispatcher,
                redirect=self._redirect,
                nursery=self._nursery,
            ),
            server,
        )
        agent_pb2_grpc.add_AuthorityServicer_to_server(
            AuthorityServer(self._cluster_id, self._authority), server
        )
        address = host_port(self._memory.listen)
        try:
            server.add_secure_port(address, grpc_server_credentials(lambda: self._credentials))
        except RuntimeError as error:
            raise Unavailable(
                f"the node port {address} cannot be opened: is another daemon using it?"
            ) from error
        await server.start()
        self._server = server

    # -- the managing half -----------------------------------------------------------------------

    async def find_leader(self) -> Leader:
        """Where a user's call goes; raises NotManager on a worker, Unavailable without a leader."""
        return await self._manager().find_leader()

    def use_cases(self) -> UseCases:
        return self._manager().cases

    async def _start_managing(self, *, bootstrap: bool = False, force_new: bool = False) -> None:
        managing = Managing(
            node_id=self._memory.node_id,
            cluster_id=self._memory.cluster_id,
            address=self._memory.address,
            listen=self._memory.listen,
            data_dir=self._machine.config.data,
            run_dir=self._machine.config.run,
            credentials=lambda: self._credentials,
            channels=self._channels,
            gossip=lambda: self.working.gossip_view(),
            clock=self._machine.clock,
            new_id=self._new_id,
        )
        own = self._memory.node_id
        peers = {
            r.node_id: r.raft_address for r in self._memory.managers if r.node_id != own and r.raft_address
        }
        self._managing = managing
        try:
            await managing.start(bootstrap=bootstrap, peers=peers, force_new=force_new)
        except BaseException:
            self._managing = None
            await managing.stop()
            raise

    async def _role_wanted(self, info: agent_pb2.SessionInfo) -> None:
        """Follow the role in this node's row.  A demoted manager waits until the group has let it go."""
        wanted = Role(info.node.spec.role)
        left = Role(info.node.role) is Role.WORKER
        if wanted is Role.WORKER and not left:
            return
        self._wanted = wanted
        if not self._plays(wanted) and not self._role_lock.locked():
            self._nursery.start("role change", self._change_role())

    def _plays(self, role: Role) -> bool:
        """Whether this node has that role's certificate, and does that role's work."""
        return self._credentials.identity.role is role is (Role.MANAGER if self._managing else Role.WORKER)

    async def _change_role(self) -> None:
        async with self._role_lock:
            while not self._plays(self._wanted):
                try:
                    await self._become(self._wanted)
                except SwarmError as error:
                    self._log.warning("role_not_changed", wanted=self._wanted.value, reason=str(error))
                    await self._machine.clock.sleep(ROLE_RETRY)

    async def _become(self, wanted: Role) -> None:
        if wanted is Role.WORKER and self._managing is not None:
            # With its manager's certificate: the others still fetch the last epoch from it.
            await self._managing.released(RELEASE_LIMIT)
        if self._credentials.identity.role is not wanted:
            await self._renew()
        if self._credentials.identity.role is not wanted:
            raise Unavailable(f"the managers do not certify this node as a {wanted.value} yet")
        if wanted is Role.MANAGER and self._managing is None:
            await self._start_managing()
            self._log.info("became_manager")
        elif wanted is Role.WORKER and self._managing is not None:
            managing, self._managing = self._managing, None
            await managing.stop()
            self._log.info("became_worker")
        await self._reconnect()

    # -- certificates ----------------------------------------------------------------------------

    async def _keep_certificate(self) -> None:
        while True:
            await self._machine.clock.sleep(RENEW_CHECK)
            if self._machine.clock.now() < self._renew_at:
                continue
            try:
                async with self._role_lock:
                    await self._renew()
                    await self._reconnect()
            except SwarmError as error:
                self._log.warning("certificate_not_renewed", reason=str(error))

    async def _renew(self) -> None:
        fresh = await renew(self._credentials, self.working.session.leader_channel())
        self._identity_store.save(fresh)
        self._credentials = fresh
        self._renew_at = renewal_due(fresh, random_fraction())
        self._log.info("certificate_renewed", role=fresh.identity.role.value)

    async def _reconnect(self) -> None:
        """Show the new certificate, and what else is new in the hello, to everybody."""
        # Closing a channel cancels the calls on it: the session begins anew, it would not survive that.
        self.working.restart_session()
        await self._channels.close()

    # -- small parts -----------------------------------------------------------------------------

    def _manager(self) -> Managing:
        if self._managing is None:
            raise not_manager(in_swarm=True)
        return self._managing

    def _dispatcher(self) -> Dispatcher | None:
        term = self._managing.term if self._managing is not None else None
        return term.dispatcher if term is not None else None

    def _authority(self) -> Authority:
        return self._manager().authority

    def _redirect(self) -> agent_pb2.Redirect:
        return self._managing.redirect() if self._managing is not None else agent_pb2.Redirect()

    def _raft_address(self) -> str:
        return self._managing.raft_address if self._managing is not None else ""

    def _cluster_id(self) -> str:
        return self._memory.cluster_id

    def _remember(self, memory: NodeMemory) -> None:
        self._memory = memory
        self._memory_file.save(memory)

    def _report(self, name: str, error: BaseException) -> None:
        self._log.error("background_failed", what=name, exc_info=error)
