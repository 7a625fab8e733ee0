"""All tasks of this node: assignments in, statuses out, everything durable in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.model.network import TaskNetwork
from swarmd.model.objects import TaskStatus
from swarmd.model.spec import ContainerSpec, PortSpec, TaskTemplate
from swarmd.model.states import TaskState
from swarmd.node.agent.core.mounts import images
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.agent.core.reporter import Reporter
from swarmd.node.agent.executor import Executor
from swarmd.node.agent.insist import insist
from swarmd.node.agent.task import TaskRunner
from swarmd.node.agent.taskdb import TaskDatabase
from swarmd.rpc import codec
from swarmd.rpc.v1 import agent_pb2
from swarmd.telemetry.tally import Tally

SpecKey = tuple[str, int]

SPEC_GONE = "task: the version of its service is not known to the managers any more"
CUT_OFF = "task: its network interface was gone when the daemon came back"


class Worker:
    """Owns one :class:`TaskRunner` per task; the session owns the wire."""

    def __init__(
        self,
        database: TaskDatabase,
        executor: Executor,
        clock: Clock,
        nursery: Nursery,
        news: Callable[[], None],
    ) -> None:
        self._database = database
        self._executor = executor
        self._clock = clock
        self._nursery = nursery
        self._news = news
        self._runners: dict[str, TaskRunner] = {}
        self._specs: dict[SpecKey, tuple[TaskTemplate, tuple[PortSpec, ...], dict[str, str]]] = {}
        self._ended = asyncio.Event()
        self._log = structlog.get_logger()
        self.reporter = Reporter()
        self.reached = Tally()

    async def open(self) -> None:
        """Go on where the last daemon on this node stopped."""
        records = await self._database.open()
        cut_off = await self._executor.restore(records)
        for record in records:
            self._run(record, broken=CUT_OFF if record.task_id in cut_off else "")

    async def assign(self, message: agent_pb2.Assignments, node_id: str) -> None:
        """Take over what the managers want now."""
        if message.complete:
            self._specs.clear()  # a new session: it names every spec that it will refer to
        for spec in message.specs:
            template = codec.from_proto(TaskTemplate, spec.template)
            ports = tuple(codec.from_proto(PortSpec, port) for port in spec.ports)
            self._specs[spec.service_id, spec.number] = (template, ports, dict(spec.labels))
        changed = [self._assign(assignment, node_id) for assignment in message.tasks]
        removed: Iterable[str] = message.removed
        if message.complete:
            wanted = {assignment.task_id for assignment in message.tasks}
            removed = [task_id for task_id in self._runners if task_id not in wanted]
        changed += [self._withdraw(task_id) for task_id in removed]
        for runner in changed:
            if runner is not None:
                await self._keep(runner)

    def users_of(self, is_it: Callable[[str], bool]) -> list[str]:
        """Names of the tasks that run, or mount, an image whose reference satisfies ``is_it``."""
        specs = ((runner.record.name, runner.record.template.container) for runner in self._runners.values())
        return [name for name, spec in specs if any(map(is_it, (spec.image, *images(spec.mounts))))]

    def spec_of(self, task_id: str) -> ContainerSpec | None:
        """How the task's container is asked for; None for a task that is none of this node's."""
        runner = self._runners.get(task_id)
        return runner.record.template.container if runner is not None else None

    def health_of(self, task_id: str) -> str:
        """What its health check last said; "" without one."""
        runner = self._runners.get(task_id)
        return runner.record.status.health if runner is not None else ""

    def running(self) -> int:
        return sum(1 for r in self._runners.values() if r.record.status.state is TaskState.RUNNING)

    def states(self) -> list[TaskState]:
        """Of each task."""
        return [runner.record.status.state for runner in self._runners.values()]

    def stopping(self) -> int:
        """How many run and are to end: they drain, or have been told to stop."""
        records = (runner.record for runner in self._runners.values())
        running, end = TaskState.RUNNING, TaskState.SHUTDOWN
        return sum(one.status.state is running and one.desired >= end for one in records)

    async def stop_all(self) -> None:
        """The node leaves its swarm: every task ends and nothing of it is left."""
        for runner in self._runners.values():
            runner.want(TaskState.REMOVE, removed=True)
        while self._runners:
            self._ended.clear()
            await self._ended.wait()

    def _assign(self, assignment: agent_pb2.Assignment, node_id: str) -> TaskRunner | None:
        """The task's runner when what is wanted of it changed and must be remembered."""
        desired = TaskState(assignment.desired_state)
        runner = self._runners.get(assignment.task_id)
        if runner is not None:
            return runner if runner.want(desired) else None
        known = self._specs.get((assignment.service_id, assignment.spec_version))
        template, ports, labels = known or (TaskTemplate(), (), {})
        self._run(
            TaskRecord(
                task_id=assignment.task_id,
                service_id=assignment.service_id,
                service_name=assignment.service_name,
                spec_version=assignment.spec_version,
                slot=assignment.slot,
                node_id=node_id,
                desired=desired,
                template=template,
                ports=ports,
                service_labels=labels,
                networks=tuple(codec.from_proto(TaskNetwork, one) for one in assignment.networks),
                status=TaskStatus(
                    state=TaskState.ASSIGNED, at=self._clock.now(), message="assigned to this node"
                ),
            ),
            # It must end in a status all the same: the managers wait for one.
            broken="" if known or desired > TaskState.RUNNING else SPEC_GONE,
        )
        return None  # the runner's first step makes it durable

    def _withdraw(self, task_id: str) -> TaskRunner | None:
        runner = self._runners.get(task_id)
        return runner if runner is not None and runner.want(TaskState.REMOVE, removed=True) else None

    async def _keep(self, runner: TaskRunner) -> None:
        """Remember what is wanted, in case the daemon restarts before the task gets there."""
        try:
            await self._database.put(runner.record)
        except Unavailable as error:
            # The runner goes on all the same; its next step is made durable with what is wanted.
            self._log.warning("assignment_not_stored", task=runner.record.task_id, reason=str(error))

    def _run(self, record: TaskRecord, *, broken: str = "") -> None:
        runner = TaskRunner(
            record, self._executor, self._clock, changed=self._changed, said=self._note, broken=broken
        )
        self._runners[record.task_id] = runner
        self._note(record.task_id, record.status)
        self._nursery.start(f"task {record.task_id}", self._to_the_end(runner))

    async def _to_the_end(self, runner: TaskRunner) -> None:
        task_id = runner.record.task_id
        await runner.run()
        del self._runners[task_id]
        self.reporter.forget(task_id)
        self._ended.set()

        def failed(error: SwarmError) -> None:
            self._log.warning("task_not_forgotten", task=task_id, reason=str(error))

        await insist(lambda: self._database.delete(task_id), self._clock, failed)

    async def _changed(self, record: TaskRecord) -> None:
        await self._database.put(record)
        if self.reporter.state_of(record.task_id) is not record.status.state:
            self.reached.add(record.status.state.name.lower())
        self._note(record.task_id, record.status)

    def _note(self, task_id: str, status: TaskStatus) -> None:
        self.reporter.note(task_id, status)
        self._news()
