"""The node half of a member: its tasks, its session with the leader, its part in gossip and mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog

from swarmd import __version__
from swarmd.api.audit import Trail
from swarmd.control.evidence import Outside, nothing_outside
from swarmd.control.pinning import Ask, nobody_knows
from swarmd.daemon.config import Config
from swarmd.daemon.imaging import Imaging
from swarmd.daemon.mesh_file import MeshFile
from swarmd.daemon.mesh_reader import MeshReader
from swarmd.daemon.state import NodeMemory
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_seed
from swarmd.kit.supervise import Nursery
from swarmd.model.addressing import block_of
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.model.objects import NodeCertificate
from swarmd.model.replace import replace
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.core.remotes import Remotes
from swarmd.node.agent.executor import Executor, Others
from swarmd.node.agent.fetch import Origin
from swarmd.node.agent.mounting import Mounting
from swarmd.node.agent.prober import Prober
from swarmd.node.agent.session import Handlers, SessionClient, remote_of
from swarmd.node.agent.taskdb import TaskDatabase
from swarmd.node.agent.worker import Worker
from swarmd.node.containers.local import LocalContainers
from swarmd.node.describe import describe, resolver_settings
from swarmd.node.membership.shell import Gossip
from swarmd.node.network.port import NetworkPort, NetworkState, NodeView
from swarmd.node.runtime import driver_oci
from swarmd.node.runtime.device_list import DeviceList
from swarmd.node.runtime.port import Runtime
from swarmd.node.volume.volumes import Volumes
from swarmd.rpc import codec, errors
from swarmd.rpc.channels import NODE_PORT, Channels
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc
from swarmd.security.sealing import Sealer


class Machine(msgspec.Struct, frozen=True):
    """What a node can do with or without a swarm.  ``origin``, ``ask``, ``signatures``: registries."""

    config: Config
    clock: Clock
    runtime: Runtime
    network: NetworkPort
    images: ImageStore
    volumes: Volumes
    trail: Trail
    containers: LocalContainers
    others: Others = dict
    opened: Callable[[], None] = lambda: None
    origin: Origin | None = None
    ask: Ask = nobody_knows
    signatures: Outside = nothing_outside


class Working:
    """Runs from the join until the node leaves, across restarts of the daemon."""

    def __init__(
        self,
        machine: Machine,
        *,
        memory: Callable[[], NodeMemory],
        remember: Callable[[NodeMemory], None],
        certificate: Callable[[], NodeCertificate],
        role_wanted: Callable[[agent_pb2.SessionInfo], Awaitable[None]],
        raft_address: Callable[[], str],
        channels: Channels,
        nursery: Nursery,
        sealer: Sealer,
    ) -> None:
        self._machine = machine
        self._memory = memory
        self._remember = remember
        self._certificate = certificate
        self._role_wanted = role_wanted
        self._raft_address = raft_address
        self._channels = channels
        self._nursery = nursery
        self._log = structlog.get_logger()
        self._remotes = Remotes(memory().managers)
        self._gossip: Gossip | None = None
        self._configured = 0
        self._session_task: asyncio.Task[object] | None = None
        self._mesh = MeshReader()
        self._mesh_file = MeshFile(machine.config.data / "mesh.json", machine.clock)
        self._imaging = imaging = Imaging(
            machine.images,
            channels,
            session=lambda: self.session,
            memory=memory,
            clock=machine.clock,
            nursery=nursery,
            policy=machine.config.data / "trust.json",
            origin=machine.origin,
        )
        self.blobs, self.fetcher, self.admission = imaging.blobs, imaging.fetcher, imaging.admission
        self.session = SessionClient(
            self._remotes,
            channels,
            lambda: self.worker.reporter,
            Handlers(
                assignments=self._assignments,
                network=self._network,
                info=self._info,
                hello=self._hello,
                images=self._imaging.inventory,
                certificate=lambda: codec.to_proto(self._certificate()),
                blobs=self._imaging.held,
                preload=self._imaging.preload,
                opened=machine.opened,
            ),
            machine.clock,
            nursery,
        )
        self.prober = Prober(machine.runtime, machine.clock)
        self._devices = DeviceList(machine.config.device_allow, keeps=("/", machine.config.data_dir))
        executor = Executor(
            runtime=machine.runtime,
            network=machine.network,
            images=machine.images,
            fetcher=self.fetcher,
            mounting=Mounting(machine.images, self.fetcher, machine.volumes),
            devices=self._devices,
            facts=self._facts,
            prober=self.prober,
            clock=machine.clock,
            others=machine.others,
        )
        self._database = TaskDatabase(machine.config.data / "tasks.db", sealer)
        self.worker = Worker(self._database, executor, machine.clock, nursery, self.session.news)

    async def start(self) -> None:
        """Go on from disk first: tasks and mesh do not wait for a manager."""
        memory = self._memory()
        if memory.number:
            await self._configure(memory.number)
        # What runs is taken over before anything is attached anew or the mesh is written.
        await self.worker.open()
        mesh = self._mesh_file.load() if memory.number else None
        if mesh is not None:
            await self._apply(mesh)
        self._nursery.start("mesh file", self._mesh_file.run())
        await self._start_gossip()
        self._begin_session()

    async def end_session(self) -> None:
        """Say goodbye, so that nobody waits for this node's silence, and take no more work."""
        try:
            leader = self.session.leader_channel()
        except Unavailable:
            return
        if self._session_task is not None:
            self._session_task.cancel()
        try:
            with errors.calling():
                await agent_pb2_grpc.DispatcherStub(leader).Leave(agent_pb2.LeaveRequest(), timeout=3)
        except SwarmError as error:
            self._log.warning("goodbye_not_heard", reason=str(error))

    async def end_work(self) -> None:
        """This node leaves the swarm: every task of it ends.  Takes as long as they are given to."""
        await self.end_session()
        await self.worker.stop_all()

    async def stop(self, *, leave: bool = False) -> None:
        """Tasks run on; with ``leave`` the others are told that this node goes for good."""
        if self._gossip is not None:
            await self._gossip.stop(leave=leave)
        await self._database.close()
        self.prober.close()

    def restart_session(self) -> None:
        """What the hello says has changed (a role, an address)."""
        if self._session_task is not None:
            self._session_task.cancel()
        self._begin_session()

    def gossip_view(self) -> Mapping[str, str]:
        """State of each node as gossip sees it from here."""
        return {} if self._gossip is None else {k: v.state for k, v in self._gossip.members().items()}

    def _begin_session(self) -> None:
        self._session_task = self._nursery.start("session", self.session.run())

    # -- what the managers say -------------------------------------------------------------------

    async def _assignments(self, message: agent_pb2.Assignments) -> None:
        await self.worker.assign(message, self._memory().node_id)

    async def _network(self, message: agent_pb2.NetworkSnapshot) -> None:
        if (state := self._mesh.read(message)) is not None:
            self._mesh_file.save(state)
            await self._apply(state)

    async def _info(self, info: agent_pb2.SessionInfo) -> None:
        memory = self._memory()
        fresh = replace(
            memory,
            managers=tuple(remote_of(peer) for peer in info.managers) or memory.managers,
            gossip_key=info.gossip_key,
            gossip_also=tuple(info.gossip_also),
            seeds=tuple(seed.address for seed in info.seeds),
            number=info.node.number,
        )
        if fresh != memory:
            self._remember(fresh)
        await self._configure(info.node.number)
        await self._start_gossip()
        await self._role_wanted(info)

    # -- what they are told ----------------------------------------------------------------------

    def _hello(self) -> agent_pb2.AgentHello:
        memory = self._memory()
        hello = agent_pb2.AgentHello(
            address=memory.address, raft_address=self._raft_address(), availability=memory.availability
        )
        hello.parts = True
        about = describe(
            __version__,
            self._machine.config.labels,
            runtimes=driver_oci.installed(),
            devices=self._devices.offers(),
        )
        codec.fill(hello.description, about)
        codec.fill(hello.certificate, self._certificate())
        return hello

    # -- network and gossip ----------------------------------------------------------------------

    async def _configure(self, number: int) -> None:
        if number == self._configured:
            return
        memory = self._memory()
        own = NodeView(memory.node_id, number, memory.address, block_of(number))
        try:
            await self._machine.network.configure(own)
        except SwarmError as error:
            self._log.error("network_not_configured", reason=str(error))
            return
        self._configured = number

    async def _apply(self, state: NetworkState) -> None:
        try:
            await self._machine.network.apply(state)
        except SwarmError as error:
            self._log.error("network_not_applied", reason=str(error))

    async def _start_gossip(self) -> None:
        memory = self._memory()
        if not memory.gossip_key:
            return
        seeds = [(address, NODE_PORT) for address in memory.seeds]
        keys = [memory.gossip_key, *memory.gossip_also]
        if self._gossip is not None:
            self._gossip.set_keys(keys)
        else:
            gossip = Gossip(
                memory.node_id,
                (memory.listen, NODE_PORT),
                (memory.address, NODE_PORT),
                keys,
                self._machine.clock,
                random_seed(),
                lambda event: self._mask(),
            )
            try:
                await gossip.start()
            except SwarmError as error:
                self._log.error("gossip_not_started", reason=str(error))
                return
            self._gossip = gossip
        if seeds:
            self._gossip.join(seeds)

    def _mask(self) -> None:
        self._machine.network.mask([one for one, state in self.gossip_view().items() if state == "dead"])

    def _facts(self) -> NodeFacts:
        about, memory = describe(__version__, {}), self._memory()
        settings = resolver_settings()
        return NodeFacts(memory.node_id, about.hostname, settings, memory.address, about.os, about.arch)
