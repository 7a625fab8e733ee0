"""The daemon of one node: its images and containers, its API socket, its part in a swarm."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Collection

import grpc
import structlog

from swarmd import __version__
from swarmd.api import netdiag, networks
from swarmd.api.audit import Auditing, Trail
from swarmd.api.control import ControlServer, UseCases
from swarmd.api.finishing import Finishing
from swarmd.api.forward import Forwarding, Leader
from swarmd.api.guard import Guard, check_local
from swarmd.api.node import NodeServer
from swarmd.api.scanner import ScannerServer
from swarmd.api.secrets import add_secrets
from swarmd.api.trust import TrustServer
from swarmd.daemon.building import Building
from swarmd.daemon.config import Config
from swarmd.daemon.containers import Containers
from swarmd.daemon.doctor import Doctor
from swarmd.daemon.lock import take_lock
from swarmd.daemon.member import Member
from swarmd.daemon.metering.door import metrics_door
from swarmd.daemon.ondisk import OnDisk
from swarmd.daemon.pulling import Registries
from swarmd.daemon.registry import swarm_registry
from swarmd.daemon.swarm import Swarm
from swarmd.daemon.telling import about_joining, describe_member
from swarmd.daemon.tools.anew import Recovery
from swarmd.daemon.tools.backups import BackupFolder
from swarmd.daemon.tools.recovering import Recovering
from swarmd.daemon.working import Machine
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.kit.ids import new_id
from swarmd.kit.sd_notify import notify
from swarmd.model.errors import Invalid, Unavailable
from swarmd.model.states import Role
from swarmd.node.describe import describe
from swarmd.node.network.port import NetworkPort
from swarmd.node.network.shell import Network
from swarmd.node.router.router import access_log
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.volume.volumes import Volumes, mounted_by
from swarmd.rpc.channels import SERVER_OPTIONS
from swarmd.rpc.v1 import (
    control_pb2_grpc,
    images_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    trust_pb2_grpc,
)
from swarmd.store.raft.node import RaftNode
from swarmd.telemetry.audit_file import AuditFile


class Daemon:
    """Everything of one process."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._log = structlog.get_logger()
        self._images = ImageStore(config.data / "images", clock, reserve=config.image_reserve)
        self._runtime = LocalRuntime(
            config.data, config.run, clock, self._report, default_runtime=config.runtime, remap=config.remap
        )
        self._volumes = Volumes(config.data / "volumes", clock, new_id, lambda: mounted_by(self._runtime))
        parts = (config, clock, self._runtime, self._images)
        self._containers = Containers(*parts, self._volumes, self._network, self._in_swarm, self._report)
        changed = self._containers.images_changed
        self._outside = Registries(config, self._images, clock, self._in_swarm, changed, self._report)
        places = (self._network, self._in_swarm, self._outside.fetched)
        self._building = Building(*parts, *places, changed, self._report)
        disk = OnDisk(config.data)
        self._swarm = Swarm(disk, self._machine, self._containers.local.task_logs, self._abandon)
        folder = BackupFolder(config.data, config.backup)
        self._recovering = Recovering(self._swarm, Recovery(config.data, disk, folder, clock, new_id))
        self._images.protect(self._kept_images)
        self._registry = swarm_registry(
            config, self._images, clock, self._member, changed, self._outside.upstream
        )
        self._audit = AuditFile(config.data / "audit.log", clock, self._report)
        self._trail = Trail(self._audit.append, clock, new_id, self._node_id)
        seen = (self._containers.local, self._images, self._in_swarm, self._network, self._trail.calls)
        self._metrics = metrics_door(config, clock, *seen)
        self._warnings: tuple[str, ...] = ()
        self._server: grpc.aio.Server | None = None
        self._lock_fd, self._finishing = -1, Finishing()

    # -- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the API socket and take part in the swarm again.

        Raises SwarmError when this daemon cannot work at all.  A swarm that cannot be taken part in is no
        such case: the socket says why.
        """
        self._config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._config.data.chmod(0o700)  # keys, tasks' environments and logs lie in it
        self._config.run.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._lock_fd = take_lock(self._config.data)
        self._audit.start()
        await self._images.open()
        await self._volumes.open()
        await self._runtime.start_up()
        await self._containers.open()
        await self._building.open()
        await self._open_socket()
        await self._swarm.resume()
        await self._containers.keeper.begin()
        await self._metrics.open()
        notify("READY=1")
        self._log.info("daemon_ready", version=__version__, data_dir=self._config.data_dir)

    async def stop(self) -> None:
        """End in order; containers run on."""
        notify("STOPPING=1")
        await self._finishing.see_off(self._server)
        await self._metrics.close()
        await self._registry.close()
        await self._outside.close()
        await self._containers.stop()
        await self._swarm.stop()
        if self._server is not None:
            await self._server.stop(0.5)
        await self._building.close()
        await self._runtime.shut_down(stop_containers=False)
        self._config.socket.unlink(missing_ok=True)
        await self._audit.close()

    async def _open_socket(self) -> None:
        server = grpc.aio.server(
            interceptors=[
                self._finishing,
                Guard(check_local, self._trail.refused),
                Forwarding(self._find_leader, self._replica, self._clock, self._trail.passing_on),
                Auditing(self._trail),
            ],
            options=SERVER_OPTIONS,
        )
        node_pb2_grpc.add_NodeApiServicer_to_server(NodeServer(self, self._images, self._volumes), server)
        control_pb2_grpc.add_ControlServicer_to_server(ControlServer(self._use_cases), server)
        images_pb2_grpc.add_ImagesServicer_to_server(
            self._containers.images_server(self._building.cache), server
        )
        trust_pb2_grpc.add_ScannerServicer_to_server(ScannerServer(self._images, self._clock), server)
        trust_pb2_grpc.add_TrustServicer_to_server(TrustServer(lambda: self._use_cases().trust), server)
        networks.serve(server, self._use_cases)
        add_secrets(server, lambda: self._use_cases().secrets)
        netdiag.serve(server, lambda: Doctor(self._member()))
        server.add_generic_rpc_handlers((self._containers.calls(self._trail.passing_on),))
        self._building.serve(server)
        self._outside.serve(server)
        self._config.socket.unlink(missing_ok=True)
        try:
            server.add_insecure_port(f"unix:{self._config.socket}")
        except RuntimeError as error:
            raise Unavailable(f"the API socket {self._config.socket} cannot be opened: {error}") from error
        await server.start()
        self._config.socket.chmod(0o660)
        if self._config.socket_group:
            self._give_socket_to(self._config.socket_group)
        self._server = server

    def _give_socket_to(self, group: str) -> None:
        try:
            shutil.chown(self._config.socket, group=group)
        except (LookupError, OSError) as error:
            raise Invalid(f'socket_group "{group}" cannot be used: {error}') from error

    def _in_swarm(self) -> Member | None:
        return self._swarm.member

    def _network(self) -> NetworkPort | None:
        return self._swarm.machine.network if self._swarm.machine else None

    async def _abandon(self) -> None:
        """What ends with a membership."""
        await self._registry.shut()
        await self._containers.abandon()

    async def _machine(self, node_id: str) -> Machine:
        if node_id:  # there is no registry without a swarm
            await self._registry.open()
        log = access_log() if self._config.http_access_log else None
        network = Network(node_id, self._clock, self._report, access_log=log)
        found = await network.start()
        self._warnings = found.missing
        for text in found.missing:
            self._log.warning("network_limited", what=text)
        return Machine(
            config=self._config,
            clock=self._clock,
            runtime=self._runtime,
            network=network,
            images=self._images,
            volumes=self._volumes,
            trail=self._trail,
            containers=self._containers.local,
            others=self._containers.keeper.others,
            opened=self._containers.keeper.places.report,
            origin=self._outside.origin,
            ask=self._outside.digest,
            signatures=self._outside.signatures,
        )

    def _kept_images(self) -> Collection[str]:
        if self._swarm.member is not None:
            return self._swarm.member.kept_images()
        if self._swarm.state != "inactive":
            raise self._swarm.absence()
        return ()

    # -- NodeActions -----------------------------------------------------------------------------

    def info(self) -> node_pb2.InfoResponse:
        """What ``swarmctl info`` shows."""
        member = self._swarm.member
        problems = (*self._audit.problems(), *self._registry.problems(), *self._metrics.problems())
        response = node_pb2.InfoResponse(
            version=__version__,
            hostname=describe(__version__, {}).hostname,
            swarm_state=self._swarm.state,
            running_containers=sum(1 for state in self._runtime.list() if state.status == "running"),
            images=len(self._images.list()),
            warnings=[*self._warnings, *self._images.warnings, *problems],
            error=self._swarm.problem,
        )
        if member is not None:
            describe_member(member, response)
            response.warnings.extend(self._swarm.machine.network.problems() if self._swarm.machine else ())
        return response

    def audit(self, *, tail: int, follow: bool) -> AsyncGenerator[bytes, None]:
        """Lines of this node's audit log."""
        return self._audit.lines(tail=tail, follow=follow)

    def _node_id(self) -> str:
        return self._swarm.member.memory.node_id if self._swarm.member is not None else ""

    async def init_swarm(self, request: node_pb2.InitSwarmRequest) -> node_pb2.InitSwarmResponse:
        if request.force_new_cluster:
            member, clusters = await self._recovering.force_new(request)
        else:
            member, clusters = await self._swarm.init(request, self._clock.now())
        return node_pb2.InitSwarmResponse(
            node_id=member.memory.node_id,
            worker_token=clusters.tokens()[0],
            address=member.memory.address,
            unlock_key=clusters.unlock_key(),
        )

    async def join_swarm(self, request: node_pb2.JoinSwarmRequest) -> node_pb2.JoinSwarmResponse:
        node_id, role = await self._swarm.join(request)
        known = [remote.node_id for remote in self._member().memory.managers]
        warnings = about_joining(node_id, known) if role is Role.MANAGER else []
        return node_pb2.JoinSwarmResponse(node_id=node_id, role=role.value, warnings=warnings)

    async def unlock_swarm(self, key: str) -> None:
        await self._swarm.unlock(key)

    async def restore_swarm(
        self, request: node_pb2.RestoreSwarmRequest, snapshot: bytes
    ) -> node_pb2.RestoreSwarmResponse:
        return await self._recovering.restore(request, snapshot)

    async def leave_swarm(self, *, force: bool) -> None:
        await self._swarm.leave(force=force)

    def images_changed(self) -> None:
        self._containers.images_changed()

    def image_users(self, digest: str) -> list[str]:
        return self._containers.image_users(digest)

    async def _find_leader(self) -> Leader:
        return await self._member().find_leader()

    def _replica(self) -> RaftNode:
        return self._member().replica()

    def _member(self) -> Member:
        if self._swarm.member is None:
            raise self._swarm.absence()
        return self._swarm.member

    def _use_cases(self) -> UseCases:
        return self._member().use_cases()

    def _report(self, name: str, error: BaseException) -> None:
        self._log.error("background_failed", what=name, reason=str(error), exc_info=error)
