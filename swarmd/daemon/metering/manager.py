"""Metrics of managers: each about its part in Raft, the leader about the swarm.

Only the leader counts the swarm's rows, so that a sum over all managers is right.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from swarmd.daemon.managing import Managing
from swarmd.daemon.metering.sources import Sources
from swarmd.model.objects import Network, Node, Secret, Service, Task
from swarmd.model.states import NodeState, TaskState, UpdateState
from swarmd.store.store import Store
from swarmd.telemetry import catalogue as names
from swarmd.telemetry.metrics import Reading, counted, one


class Swarm:
    """The swarm's rows, counted once for each version of them."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._counted: tuple[Store, int] | None = None
        self._readings: Sequence[Reading] = ()

    async def read(self) -> Sequence[Reading]:
        """Empty on who does not lead."""
        managing = _managing(self._sources)
        if managing is None or not managing.raft.is_leader():
            self._counted = None
            return ()
        store = managing.store
        if self._counted != (store, store.index):
            rows = Rows(
                nodes=list(store.all(Node)),
                services=list(store.all(Service)),
                tasks=list(store.all(Task)),
                networks=len(store.all(Network)),
                secrets=len(store.all(Secret)),
            )
            seen = (store, store.index)
            self._readings = await asyncio.to_thread(swarm, rows)
            self._counted = seen
        if managing.term is None:
            return self._readings
        dispatcher = managing.term.dispatcher
        sessions = one(names.SESSIONS, len(dispatcher.connected()))
        return (*self._readings, sessions, dispatcher.starts.of(names.STARTS))


class Rows(msgspec.Struct, frozen=True):
    """What is counted; rows never change, so a list of them may be read in a thread."""

    nodes: Sequence[Node]
    services: Sequence[Service]
    tasks: Sequence[Task]
    networks: int
    secrets: int


def swarm(rows: Rows) -> list[Reading]:
    """About a microsecond for each row."""
    nodes = (node.status.state.value for node in rows.nodes if not node.removed)
    tasks = Counter(task.state for task in rows.tasks)
    updates = (service.update_status for service in rows.services)
    states = (update.state.value for update in updates if update is not None)
    return [
        counted(names.NODES, nodes, (state.value for state in NodeState)),
        Reading(names.TASKS, {(state.name.lower(),): float(tasks[state]) for state in TaskState}),
        one(names.SERVICES, len(rows.services)),
        one(names.SHORT, short(rows.services, rows.tasks)),
        counted(names.UPDATING, states, (state.value for state in UpdateState)),
        one(names.NETWORKS, rows.networks),
        one(names.SECRETS, rows.secrets),
    ]


def short(services: Collection[Service], tasks: Collection[Task]) -> int:
    """How many services have fewer running tasks than ``service ls`` says they are to have."""
    live: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for task in tasks:
        if task.is_live:
            live[task.service_id] += 1
            running[task.service_id] += task.state is TaskState.RUNNING
    return sum(
        running[each.id] < (each.spec.replicas if each.spec.mode == "replicated" else live[each.id])
        for each in services
    )


async def raft(sources: Sources) -> Sequence[Reading]:
    """Empty on workers."""
    membership = sources.member()
    if membership is None or membership.managing is None:
        return ()
    member, own = membership.managing.raft, membership.memory.node_id
    status = member.status()
    reachable = len((status.reachable | {status.leader, own}) & status.members.keys())
    age = () if status.age is None else (one(names.AGE, status.age),)
    return (
        one(names.LEADS, status.role == "leader"),
        one(names.TERM, status.term),
        one(names.EPOCH, status.epoch),
        one(names.INDEX, status.applied),
        one(names.MEMBERS, len(status.members)),
        one(names.REACHABLE, reachable),
        one(names.QUORUM, status.has_quorum),
        *age,
        one(names.LEADERS, member.measures.leader_changes),
        one(names.LOG, member.log_bytes()),
        member.measures.proposing.of(names.PROPOSING),
        member.measures.syncing.of(names.SYNCING),
    )


def _managing(sources: Sources) -> Managing | None:
    member = sources.member()
    return member.managing if member is not None else None
