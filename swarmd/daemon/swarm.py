"""The way into a swarm and out of it.  Nothing is half done: what fails is undone, what crashed goes on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable

import grpc
import structlog

from swarmd.control.cluster import Founding, check_spec
from swarmd.control.nodes import NodeChange
from swarmd.daemon.joining import join
from swarmd.daemon.managing import CLUSTER_PORT, Managing
from swarmd.daemon.member import Member
from swarmd.daemon.state import MemoryFile, NodeMemory
from swarmd.daemon.working import Machine
from swarmd.kit.ids import new_id, random_bytes
from swarmd.model.errors import Invalid, NotManager, Refused, SwarmError
from swarmd.model.spec import ClusterSpec
from swarmd.model.states import Availability, Role
from swarmd.node import addresses
from swarmd.node.agent.core.remotes import Remote
from swarmd.node.peer import TaskLogs
from swarmd.rpc.v1 import control_pb2, control_pb2_grpc, node_pb2
from swarmd.security import ca
from swarmd.security.identity import Credentials, IdentityStore

ALREADY = (
    'This node is already part of a swarm. Use "swarmctl swarm leave" to leave this swarm '
    "and join another one."
)
LAST_MANAGER = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last "
    "manager erases all current state of the swarm. Use `--force` to ignore this message."
)
ONE_OF_MANAGERS = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing this node "
    "leaves {left} managers out of {all}. Without a Raft quorum your swarm will be inaccessible. Demote the "
    "node first, or use `--force` to suppress this message."
)
LEAVE_LIMIT = 20.0
"""Seconds a manager that leaves waits for the others to let it go."""

DEFAULT_LISTEN = "0.0.0.0"

MakeMachine = Callable[[str], Awaitable[Machine]]


class Swarm:
    """At most one membership at a time."""

    def __init__(
        self, data_dir_files: tuple[IdentityStore, MemoryFile], machine: MakeMachine, logs: TaskLogs
    ) -> None:
        self._identity, self._memory_file = data_dir_files
        self._make_machine = machine
        self._logs = logs
        self._log = structlog.get_logger()
        self._change = asyncio.Lock()
        self.member: Member | None = None
        self.machine: Machine | None = None
        self.problem = ""

    # -- from disk -------------------------------------------------------------------------------

    async def resume(self) -> None:
        """At start: take part again, or finish what a crash interrupted."""
        credentials, memory = self._identity.load(), self._memory_file.load()
        if credentials is None or memory is None:
            return
        identity = credentials.identity
        if (identity.node_id, identity.cluster_id) != (memory.node_id, memory.cluster_id):
            raise Invalid(
                f"the data directory mixes two swarms: its certificate is of node {identity.node_id} in "
                f"swarm {identity.cluster_id}, its memory of node {memory.node_id} in swarm "
                f"{memory.cluster_id}. "
                "Restore one backup as a whole, or remove the data directory and join again"
            )
        await self._begin(credentials, memory, founding=memory.founding)

    async def _begin(
        self, credentials: Credentials, memory: NodeMemory, *, founding: Founding | None = None
    ) -> None:
        machine = await self._make_machine(memory.node_id)
        member = Member(
            machine,
            credentials,
            self._identity,
            memory,
            self._memory_file,
            logs=self._logs,
            new_id=new_id,
        )
        self.member, self.machine = member, machine
        try:
            await member.start(founding=founding)
        except BaseException:
            self.member = self.machine = None
            await member.stop()
            await machine.network.stop(clean=False)
            raise

    async def stop(self) -> None:
        """The daemon ends; containers and mesh stay."""
        if self.member is not None:
            await self.member.stop()
        if self.machine is not None:
            await self.machine.network.stop(clean=False)

    # -- init and join ---------------------------------------------------------------------------

    async def init(self, request: node_pb2.InitSwarmRequest, now: float) -> tuple[Member, str]:
        """Begin a swarm with this node as its manager; answers the member and the worker token."""
        async with self._change:
            self._check_outside()
            spec = _cluster_spec(request)
            address = addresses.resolve(request.advertise_addr, addresses.interface_addresses())
            founding, credentials = _found(address, spec, _availability(request.availability), now)
            memory = NodeMemory(
                node_id=founding.node_id,
                cluster_id=founding.cluster_id,
                address=address,
                listen=_listen(request.listen_addr),
                availability=request.availability or "active",
                managers=(Remote(founding.node_id, address, f"{address}:{CLUSTER_PORT}"),),
                founding=founding,
            )
            await self._enter(credentials, memory, founding=founding)
            assert self.member is not None
            assert self.member.managing is not None
            return self.member, self.member.managing.cases.clusters.tokens()[0]

    async def join(self, request: node_pb2.JoinSwarmRequest) -> tuple[str, Role]:
        """Join with a token; answers the node's id and role."""
        async with self._change:
            self._check_outside()
            availability = _availability(request.availability)
            address = addresses.resolve(request.advertise_addr, addresses.interface_addresses())
            joined = await join(request.token, list(request.remote_addrs))
            managers = tuple(
                Remote(node_id, raft_address.rpartition(":")[0], raft_address)
                for node_id, raft_address in joined.managers.items()
            )
            memory = NodeMemory(
                node_id=joined.node_id,
                cluster_id=joined.cluster_id,
                address=address,
                listen=_listen(request.listen_addr),
                availability=availability.value,
                managers=managers,
            )
            await self._enter(joined.credentials, memory)
            return joined.node_id, joined.role

    async def _enter(
        self, credentials: Credentials, memory: NodeMemory, *, founding: Founding | None = None
    ) -> None:
        self._identity.save(credentials)
        self._memory_file.save(memory)
        try:
            await self._begin(credentials, memory, founding=founding)
        except BaseException:
            self._wipe()
            raise

    # -- leave -----------------------------------------------------------------------------------

    async def leave(self, *, force: bool) -> None:
        """End this node's tasks and its membership.  Raises Refused for a manager without ``force``."""
        async with self._change:
            member = self.member
            if member is None:
                if self.problem and force:
                    self._wipe()  # a membership that cannot be taken up again
                    self.problem = ""
                    return
                raise NotManager("This node is not part of a swarm")
            if member.managing is not None:
                await self._leave_group(member.managing, member.memory.node_id, force=force)
            await member.stop(leave=True)
            assert self.machine is not None
            await self.machine.network.stop(clean=True)
            self.member = self.machine = None
            self._wipe()
            self._log.info("left_swarm")

    async def _leave_group(self, managing: Managing, node_id: str, *, force: bool) -> None:
        members = managing.raft.status().members
        if not force:
            if len(members) <= 1:
                raise Refused(LAST_MANAGER)
            raise Refused(ONE_OF_MANAGERS.format(left=len(members) - 1, all=len(members)))
        if len(members) <= 1:
            return
        try:
            await _demote(managing, node_id)
            if not await managing.released(LEAVE_LIMIT):
                self._log.warning("left_without_the_others", reason=f"no answer within {LEAVE_LIMIT} s")
        except (SwarmError, grpc.RpcError) as error:
            self._log.warning("left_without_the_others", reason=str(error))

    def _check_outside(self) -> None:
        if self.member is not None or self.problem:
            raise Refused(ALREADY)

    def _wipe(self) -> None:
        data = self._memory_file.directory
        self._memory_file.remove()
        self._identity.remove()
        shutil.rmtree(data / "raft", ignore_errors=True)
        for name in ("tasks.db", "tasks.db-wal", "tasks.db-shm", "mesh.json"):
            (data / name).unlink(missing_ok=True)


async def _demote(managing: Managing, node_id: str) -> None:
    leader = await managing.find_leader()
    if leader.channel is None:
        await managing.cases.nodes.update(node_id, NodeChange(role=Role.WORKER.value))
        return
    request = control_pb2.UpdateNodeRequest(ref=node_id, role=Role.WORKER.value)
    await control_pb2_grpc.ControlStub(leader.channel).UpdateNode(request, timeout=10)


def _found(
    address: str, spec: ClusterSpec, availability: Availability, now: float
) -> tuple[Founding, Credentials]:
    root, root_key = ca.new_root(now)
    founding = Founding(
        cluster_id=new_id(),
        node_id=new_id(),
        address=address,
        root_ca=root,
        ca_key=root_key,
        gossip_key=random_bytes(32),
        availability=availability,
        spec=spec,
    )
    key = ca.new_key()
    certificate = ca.sign(
        ca.new_request(key),
        ca.Identity(founding.node_id, Role.MANAGER, founding.cluster_id),
        root_pem=root,
        root_key_pem=root_key,
        now=now,
        life=spec.certificate_expiry,
    )
    return founding, Credentials(key=key, certificate=certificate, root=root)


def _cluster_spec(request: node_pb2.InitSwarmRequest) -> ClusterSpec:
    default = ClusterSpec()
    spec = ClusterSpec(
        task_history=request.task_history or default.task_history,
        heartbeat=request.heartbeat or default.heartbeat,
        certificate_expiry=request.certificate_expiry or default.certificate_expiry,
    )
    check_spec(spec)
    return spec


def _availability(text: str) -> Availability:
    try:
        return Availability(text or "active")
    except ValueError as error:
        raise Invalid(f'invalid Availability: "{text}": use active, pause or drain') from error


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "")
    if port and port != str(CLUSTER_PORT):
        raise Invalid(f'listen-addr "{text}": the cluster port is {CLUSTER_PORT} and cannot be changed')
    if not host:
        return DEFAULT_LISTEN
    known = addresses.interface_addresses()
    if host == DEFAULT_LISTEN:
        return host
    return addresses.resolve(host, known, option="listen-addr")
