"""Find faults in the swarm's network: a manager asks all nodes, and puts together what they say.

user ──► Doctor ──► ExamineNode of each node, many at once ──► control/core/doctor ──► findings
           └─ trace: rows of the store, and what the source's node says of itself
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

from swarmd.control.core import doctor, which
from swarmd.control.core.doctor_network import of_network
from swarmd.control.core.trace import trace
from swarmd.control.core.trace_rows import (
    Destination,
    Rows,
    Single,
    Told,
    Trace,
    destination,
    overlay_address,
    single,
)
from swarmd.daemon.member import Member
from swarmd.kit.supervise import together
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import NotFound, Refused, SwarmError, Unavailable
from swarmd.model.objects import Network, Node, Service, Task
from swarmd.model.spec import TaskTemplate
from swarmd.model.states import NodeState
from swarmd.rpc import errors
from swarmd.rpc.v1 import netdiag_pb2 as pb
from swarmd.rpc.v1 import netdiag_pb2_grpc
from swarmd.store.store import Store

AT_ONCE = 128
"""Nodes that are asked at the same time."""

PATIENCE = 60.0
"""Seconds a node has to try its ways."""

QUICK = 5.0
"""Seconds a node has to speak of itself alone."""

CATCH_UP = 2.0
"""Seconds that a manager tries to be as new as the leader before it goes by what it knows."""


class Doctor:
    """Of a manager; ``member`` is its part in the swarm."""

    def __init__(self, member: Member) -> None:
        self._member = member

    async def examine(self, network: str) -> pb.ExamineNetworkResponse:
        """All nodes, or those with tasks in ``network`` (name or id).  Raises NotFound, Unavailable."""
        store = await self._store()
        chosen = _network(store, network) if network else None
        nodes = sorted(store.all(Node), key=lambda one: one.description.hostname or one.id)
        tasks = _members(store)
        if chosen is not None:
            there = {t.node_id for t in tasks if any(one.network_id == chosen.id for one in t.networks)}
            nodes = [node for node in nodes if node.id in there]
        reports = await self._ask_all(nodes)
        found = doctor.findings(reports)
        if chosen is not None:
            more = of_network(chosen, store.all(Service), tasks, reports)
            found = doctor.in_order([*found, *more])
        able = sum(1 for one in nodes if _can_be_tried(one))
        return pb.ExamineNetworkResponse(
            nodes=reports,
            findings=found,
            tried=sum(len(one.report.ways) for one in reports),
            ways=able * (able - 1),
        )

    async def trace(self, source: str, to: str) -> pb.TracePacketResponse:
        """Raises NotFound, Invalid, Refused, Unavailable."""
        store = await self._store()
        task = _source(store, source)
        where = destination(to)
        rows = Rows(
            nodes={one.id: one for one in store.all(Node)},
            services={one.id: one for one in store.all(Service)},
            networks={one.id: one for one in store.all(Network) if not one.ingress},
            tasks=_members(store),
        )
        version = store.spec_version(task.service_id, task.spec_version)
        template = version.template if version is not None else TaskTemplate()
        told = await self._told(store.get(Node, task.node_id))
        found: Trace = trace(rows, task, template, where, told, meant=_meant(rows, where))
        response = pb.TracePacketResponse(verdict=found.verdict, conclusion=found.conclusion)
        for step in found.steps:
            response.steps.add(kind=step.kind, text=step.text, refused=step.refused)
        return response

    async def _store(self) -> Store:
        managing = self._member.managing
        if managing is None:
            raise Refused("this node is no manager: only managers can ask the nodes")
        with contextlib.suppress(Unavailable):
            await managing.raft.read_index(timeout=CATCH_UP)
        return managing.store

    async def _told(self, node: Node | None) -> Told:
        if node is None:
            return Told(error="it is no longer part of the swarm")
        try:
            report = await self._ask(node, pb.ExamineNodeRequest(), QUICK)
        except SwarmError as error:
            return Told(error=str(error))
        return Told(
            snapshot=report.snapshot,
            applied=report.applied,
            audited=report.audited,
            differences=tuple(report.differences),
            problems=tuple(report.problems),
        )

    async def _ask_all(self, nodes: Sequence[Node]) -> list[pb.ExaminedNode]:
        by_id = {one.id: one for one in nodes}
        targets = doctor.targets([one.id for one in nodes if _can_be_tried(one)])
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(node: Node) -> pb.ExaminedNode:
            view = pb.ExaminedNode(
                id=node.id,
                hostname=node.description.hostname,
                address=node.status.address,
                state=node.status.state.value,
            )
            if node.status.state is NodeState.DOWN:
                return view
            request = pb.ExamineNodeRequest(targets=_targets(by_id[it] for it in targets.get(node.id, ())))
            async with turn:
                try:
                    view.report.CopyFrom(await self._ask(node, request, PATIENCE))
                except SwarmError as error:
                    view.error = str(error)
            return view

        return await together(*(one(node) for node in nodes))

    async def _ask(self, node: Node, request: pb.ExamineNodeRequest, limit: float) -> pb.ExamineNodeResponse:
        if node.id == self._member.memory.node_id:
            return await self._member.examine(request)
        with errors.calling(), self._member.channels.using(node.status.address, node.id) as channel:
            stub = netdiag_pb2_grpc.NodeNetworkStub(channel)
            answer: pb.ExamineNodeResponse = await stub.ExamineNode(request, timeout=limit)
            return answer


def _members(store: Store) -> list[Task]:
    """Tasks that have not ended, and single containers that are up."""
    return [
        *(one for one in store.all(Task) if one.is_live),
        *(single(one) for one in store.all(SingleContainer) if one.up),
    ]


def _network(store: Store, ref: str) -> Network:
    named = [one for one in store.all(Network) if ref in (one.id, one.name)]
    found = named or [one for one in store.all(Network) if one.id.startswith(ref)]
    if len(found) != 1:
        raise NotFound(f"network {ref} not found")
    return found[0]


def _can_be_tried(node: Node) -> bool:
    return bool(node.number and node.status.address) and node.status.state is not NodeState.DOWN


def _targets(nodes: Iterable[Node]) -> list[pb.ExamineTarget]:
    return [
        pb.ExamineTarget(node_id=one.id, address=one.status.address, overlay=overlay_address(one))
        for one in nodes
    ]


def _source(store: Store, ref: str) -> Task:
    """A task that has not ended: former ones of its slot send nothing any more."""
    try:
        return which.chosen(ref, [one for one in store.all(Task) if one.is_live])
    except NotFound:
        raise NotFound(f"no task {ref} runs or is to run: name one as SERVICE.SLOT, or by its id") from None


def _meant(rows: Rows, where: Destination) -> Task | None:
    """The task that a destination names as tables do: SERVICE.SLOT, or by its id."""
    for task in rows.tasks:
        if not isinstance(task, Single) and where.host and where.host in (task.id, task.name):
            return task
    return None
