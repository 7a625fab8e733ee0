"""A node's part in a swarm: its identity, the node port, the working half, and the managing half while it
is a manager.

    certificate's role  ──► the managing half runs, or not
    session info        ──► the role that users want ──► a new certificate ──► the above
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from typing import Any

import structlog

from swarmd.api.control import UseCases
from swarmd.api.forward import Leader, not_manager
from swarmd.api.open_calls import OpenCalls
from swarmd.control.cluster import Founding
from swarmd.control.registry import Registry
from swarmd.daemon.certificate import OwnCertificate, Ways
from swarmd.daemon.locking import Locking
from swarmd.daemon.managing import Managing
from swarmd.daemon.moving import today
from swarmd.daemon.nodeport import NodePortParts, node_port_server
from swarmd.daemon.papers import papers
from swarmd.daemon.state import MemoryFile, NodeMemory
from swarmd.daemon.tools.backups import BackupFolder
from swarmd.daemon.trusting import policy_of
from swarmd.daemon.working import Machine, Working
from swarmd.kit.ids import NewId
from swarmd.kit.supervise import Nursery, caught
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.model.addressing import block_of
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.model.objects import NodeCertificate
from swarmd.model.replace import replace
from swarmd.model.states import Role
from swarmd.node.distribution.core.choosing import Provider
from swarmd.node.network.diagnosis import Diagnosis
from swarmd.node.peer import TaskLogs
from swarmd.rpc.channels import GRACE, Channels, host_port
from swarmd.rpc.v1 import agent_pb2, netdiag_pb2
from swarmd.security.identity import (
    Credentials,
    IdentityStore,
    grpc_channel_credentials,
    grpc_server_credentials,
    is_manager,
)
from swarmd.security.vault import Vault
from swarmd.store.raft.node import RaftNode

RELEASE_LIMIT = 15.0
"""Seconds a demoted manager waits for the others before it stops answering them."""

ROLE_RETRY = 1.0
"""Seconds between attempts to follow a new role."""


class Member:
    """One membership, from join or start of the daemon to leave or stop."""

    def __init__(
        self,
        machine: Machine,
        credentials: Credentials,
        identity_store: IdentityStore,
        memory: NodeMemory,
        memory_file: MemoryFile,
        vault: Vault,
        *,
        logs: TaskLogs,
        new_id: NewId,
    ) -> None:
        self._machine = machine
        self._memory = memory
        self._memory_file = memory_file
        self._locking = Locking(vault, self._reseal, machine.clock)
        self._new_id = new_id
        self._log = structlog.get_logger()
        self._nursery = Nursery(self._report)
        self._channels = Channels(lambda: grpc_channel_credentials(self._credentials))
        self._managing: Managing | None = None
        self._wanted = credentials.identity.role
        self._is_dismissed = False
        self._role_lock = asyncio.Lock()
        self._certificate = OwnCertificate(credentials, identity_store, machine.clock, self._ways_to_renew())
        machine.network.identify(lambda: papers(self._credentials, machine.config.run))
        self._logs = logs
        self._server: Any = None
        self._calls: OpenCalls
        self.working = Working(
            machine,
            memory=lambda: self._memory,
            remember=self._remember,
            certificate=self._certificate.report,
            role_wanted=self._told,
            raft_address=self._raft_address,
            channels=self._channels,
            nursery=self._nursery,
            sealer=vault,
        )

    @property
    def memory(self) -> NodeMemory:
        return self._memory

    @property
    def managing(self) -> Managing | None:
        """The managing half, while this node is a manager."""
        return self._managing

    @property
    def certificate(self) -> NodeCertificate:
        """What is to be known of this node's own."""
        return self._certificate.report()

    @property
    def channels(self) -> Channels:
        """The ways to the node ports of others."""
        return self._channels

    # -- life ------------------------------------------------------------------------------------

    async def start(self, *, founding: Founding | None = None) -> None:
        """Open the node port, take part.  Raises SwarmError when a port or the disk cannot be used."""
        self._memory = today(self._memory, self._machine.config.advertise_addr, self._memory_file.save)
        await self._open_node_port()
        if not is_manager(self._credentials):
            self._locking.release()
        else:
            await self._start_managing(bootstrap=founding is not None)
        if founding is not None and self._managing is not None:
            cluster = await self._managing.found(founding)
            self._memory = replace(self._memory, founding=None, gossip_key=cluster.gossip_key, number=1)
            self._memory_file.save(self._memory)
            self._locking.follow(cluster)
        await self.working.start()
        self._nursery.start("certificate", self._certificate.keep(self._reconnect, self._role_lock))

    async def stop(self, *, leave: bool = False, limit: float | None = None) -> None:
        """Stop taking part; with ``leave`` for good: every task ends first, within ``limit`` seconds.

        Whatever goes wrong with one part is reported, and the others are stopped all the same.
        """
        if leave:
            await self._end("tasks", asyncio.wait_for(self.working.end_work(), limit))
        if self._server is not None:
            await self._end("calls", self._calls.finishing.see_off(self._server))
        await self._end("node half", self.working.stop(leave=leave))
        if self._managing is not None:
            await self._end("manager half", self._managing.stop())
        await self._nursery.close()
        if self._server is not None:
            await self._end("node port", self._server.stop(0.5))
        await self._end("channels", self._channels.close())

    async def _end(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        error = await caught(work)
        if error is not None:
            self._report(f"stop of the {what}", error)

    async def _open_node_port(self) -> None:
        parts = NodePortParts(
            images=self._machine.images,
            logs=self._logs,
            containers=self._machine.containers,
            clock=self._machine.clock,
            trail=self._machine.trail,
            nursery=self._nursery,
            cluster_id=lambda: self._memory.cluster_id,
            store=lambda: self._managing.store if self._managing is not None else None,
            find_leader=self.find_leader,
            here=self.replica,
            use_cases=self.use_cases,
            dispatcher=self._dispatcher,
            redirect=self._redirect,
            authority=lambda: self._manager().authority,
            trusted=lambda: self._credentials.root,
            keep=self._keep,
            registry=self._leading_registry,
            examine=self.examine,
        )
        server, self._calls = node_port_server(parts)
        address = host_port(self._memory.listen)
        try:
            server.add_secure_port(address, grpc_server_credentials(lambda: self._credentials))
        except RuntimeError as error:
            raise Unavailable(
                f"the node port {address} cannot be opened: is another daemon using it?"
            ) from error
        await server.start()
        self._server = server

    async def examine(self, request: netdiag_pb2.ExamineNodeRequest) -> netdiag_pb2.ExamineNodeResponse:
        """What this node finds out about its network and its ways to others."""
        own, gossip = self._memory, self.working.gossip_view
        overlay = block_of(own.number).partition("/")[0] if own.number else ""
        network = self._machine.network
        return await Diagnosis(network, address=own.address, overlay=overlay, gossip=gossip).run(request)

    def kept_images(self) -> Collection[str]:
        """Digests that stay on this node because the swarm keeps them.  Raises Unavailable while unknown."""
        if is_manager(self._credentials) and self._managing is None:
            raise Unavailable("this manager does not take part in the swarm yet")
        return self._managing.keeping.roots() if self._managing is not None else ()

    # -- the managing half -----------------------------------------------------------------------

    async def find_leader(self) -> Leader:
        """Where a user's call goes; raises NotManager on a worker, Unavailable without a leader."""
        return await self._manager().find_leader()

    def replica(self) -> RaftNode:
        """This manager's copy of the swarm; raises NotManager on a worker."""
        return self._manager().raft

    def use_cases(self) -> UseCases:
        return self._manager().cases

    async def _keep(self, digests: Sequence[str], *, first: Sequence[Provider]) -> None:
        await self._manager().keeping.keep(digests, first=first)

    async def _leading_registry(self) -> Registry:
        return await self._manager().leading_registry()

    async def _start_managing(self, *, bootstrap: bool = False) -> None:
        managing = Managing(
            node_id=self._memory.node_id,
            cluster_id=self._memory.cluster_id,
            address=self._memory.address,
            listen=self._memory.listen,
            data_dir=self._machine.config.data,
            run_dir=self._machine.config.run,
            reserve=self._machine.config.reserve,
            credentials=lambda: self._credentials,
            locking=self._locking,
            channels=self._channels,
            gossip=lambda: self.working.gossip_view(),
            clock=self._machine.clock,
            new_id=self._new_id,
            ask=self._machine.ask,
            signatures=self._machine.signatures,
            backups=BackupFolder(self._machine.config.data, self._machine.config.backup),
            content=self._machine.images.content,
            blobs=self.working.blobs,
            registry=self._machine.config.registry,
            on_left=self._let_go,
            joins=self._machine.trail.joins,
            refused=self._machine.trail.refused_connection,
            recheck=lambda: self._calls.recheck(),
        )
        own = self._memory.node_id
        peers = {
            r.node_id: r.raft_address for r in self._memory.managers if r.node_id != own and r.raft_address
        }
        self._managing = managing
        try:
            await managing.start(bootstrap=bootstrap, peers=peers)
        except BaseException:
            self._managing = None
            await managing.stop()
            raise

    async def _told(self, info: agent_pb2.SessionInfo) -> None:
        """Follow what the leader says of images, roots, certificate and role."""
        self.working.admission.follow(policy_of(info))
        if self._certificate.trust(info.root_ca):
            self._show_certificate()
            self.working.session.certificate_changed()
        self._certificate.want(info.wanted_issuer)
        self._follow_role(info)

    def _follow_role(self, info: agent_pb2.SessionInfo) -> None:
        """Follow the role in this node's row.  A demoted manager waits until the group has let it go."""
        wanted = Role(info.node.spec.role)
        left = Role(info.node.role) is Role.WORKER
        self._is_dismissed = wanted is Role.WORKER
        if wanted is Role.WORKER and not left:
            return
        self._wanted = wanted
        self._check_role()

    def _let_go(self) -> None:
        """The group goes on without this node.  One that is to be a worker hears of it in its row."""
        if not self._is_dismissed:
            self._check_role()

    def _check_role(self) -> None:
        if not self._plays(self._wanted) and not self._role_lock.locked():
            self._nursery.start("role change", self._change_role())

    def _plays(self, role: Role) -> bool:
        """Whether this node has that role's certificate, and does that role's work."""
        if self._credentials.identity.role is not role:
            return False
        if role is Role.WORKER:
            return self._managing is None
        return self._managing is not None and not self._managing.has_left

    async def _change_role(self) -> None:
        async with self._role_lock:
            while not self._plays(self._wanted):
                error = await caught(self._become(self._wanted))
                if error is not None:
                    self._failed("role_not_changed", error, wanted=self._wanted.value)
                    await self._machine.clock.sleep(ROLE_RETRY)

    async def _become(self, wanted: Role) -> None:
        if wanted is Role.WORKER and self._managing is not None:
            # With its manager's certificate: the others still fetch the last epoch from it.
            await self._managing.released(RELEASE_LIMIT)
        if self._credentials.identity.role is not wanted:
            await self._certificate.renew()
        if self._credentials.identity.role is not wanted:
            raise Unavailable(f"the managers do not certify this node as a {wanted.value} yet")
        if wanted is Role.MANAGER and self._managing is not None and self._managing.has_left:
            # Demoted and promoted in one breath: the group let it go before it was asked back.
            managing, self._managing = self._managing, None
            await managing.stop()
        if wanted is Role.MANAGER and self._managing is None:
            await self._start_managing()
            self._log.info("became_manager")
        elif wanted is Role.WORKER and self._managing is not None:
            managing, self._managing = self._managing, None
            await managing.stop()
            self._locking.release()
            self._log.info("became_worker")
        self._reconnect()

    # -- certificates ----------------------------------------------------------------------------

    def _ways_to_renew(self) -> Ways:
        return Ways(
            leader=lambda: self.working.session.leader_channel(),
            cluster_ports=lambda: [r.raft_address for r in self._memory.managers if r.raft_address],
            authority=lambda: self._managing.authority if self._managing is not None else None,
        )

    @property
    def _credentials(self) -> Credentials:
        return self._certificate.credentials

    def _reconnect(self) -> None:
        """Show the new certificate, and what else is new in the hello, to everybody."""
        self._show_certificate()
        self.working.restart_session()

    def _show_certificate(self) -> None:
        # What is under way (an image, a log) goes on over the old channels.
        self._channels.renew()
        if self._managing is not None:
            self._managing.show_certificate()
        self._calls.recheck()
        # Nothing comes about any more over channels that show an expired certificate: gRPC would only try.
        grace = 0.0 if self._certificate.replaced_expired else GRACE
        self._nursery.start("channels of the old certificate", self._channels.retire(grace=grace))

    # -- small parts -----------------------------------------------------------------------------

    def _manager(self) -> Managing:
        if self._managing is None:
            raise not_manager(in_swarm=True)
        return self._managing

    def _dispatcher(self) -> Dispatcher | None:
        term = self._managing.term if self._managing is not None else None
        return term.dispatcher if term is not None else None

    def _redirect(self) -> agent_pb2.Redirect:
        return self._managing.redirect() if self._managing is not None else agent_pb2.Redirect()

    def _raft_address(self) -> str:
        return self._managing.raft_address if self._managing is not None else ""

    def _remember(self, memory: NodeMemory) -> None:
        """A full disk is no reason not to work: what is not on it comes again with the next session."""
        self._memory = memory
        try:
            self._memory_file.save(memory)
        except Unavailable as error:
            self._log.error("memory_not_saved", reason=str(error))

    def _reseal(self) -> None:
        self._certificate.save()
        self._memory_file.save(self._memory)

    def problems(self) -> list[str]:
        """Sentences about what is wrong with this membership, for a person."""
        saving = self._managing.saving.problem if self._managing is not None else ""
        found = [*self._certificate.problems(), *self._locking.problems()]
        return [*found, saving] if saving else found

    def _failed(self, event: str, error: Exception, **more: object) -> None:
        known = isinstance(error, SwarmError)
        self._log.warning(event, reason=str(error), exc_info=None if known else error, **more)

    def _report(self, name: str, error: BaseException) -> None:
        self._log.error("background_failed", what=name, exc_info=error)
