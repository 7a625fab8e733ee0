"""All tasks of this node: assignments in, statuses out, everything durable in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery
from swarmd.model.objects import TaskStatus
from swarmd.model.spec import PortSpec, TaskTemplate
from swarmd.model.states import TaskState
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.agent.core.reporter import Reporter
from swarmd.node.agent.executor import Executor
from swarmd.node.agent.task import TaskRunner
from swarmd.node.agent.taskdb import TaskDatabase
from swarmd.rpc import codec
from swarmd.rpc.v1 import agent_pb2

SpecKey = tuple[str, int]


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
        self._specs: dict[SpecKey, tuple[TaskTemplate, tuple[PortSpec, ...]]] = {}
        self.reporter = Reporter()

    async def open(self) -> None:
        """Go on where the last daemon on this node stopped."""
        records = await self._database.open()
        await self._executor.restore(records)
        for record in records:
            self._run(record)

    async def assign(self, message: agent_pb2.Assignments, node_id: str) -> None:
        """Take over what the managers want now."""
        for spec in message.specs:
            template = codec.from_proto(TaskTemplate, spec.template)
            ports = tuple(codec.from_proto(PortSpec, port) for port in spec.ports)
            self._specs[spec.service_id, spec.number] = (template, ports)
        for assignment in message.tasks:
            await self._assign(assignment, node_id)
        removed: Iterable[str] = message.removed
        if message.complete:
            wanted = {assignment.task_id for assignment in message.tasks}
            removed = [task_id for task_id in self._runners if task_id not in wanted]
        for task_id in removed:
            await self._withdraw(task_id)

    def users_of(self, is_it: Callable[[str], bool]) -> list[str]:
        """Names of the tasks whose image reference satisfies ``is_it``."""
        records = (runner.record for runner in self._runners.values())
        return [record.name for record in records if is_it(record.template.container.image)]

    def running(self) -> int:
        return sum(1 for r in self._runners.values() if r.record.status.state is TaskState.RUNNING)

    async def stop_all(self) -> None:
        """The node leaves its swarm: every task ends and is forgotten."""
        for runner in list(self._runners.values()):
            runner.want(TaskState.REMOVE, removed=True)
        while self._runners:
            await self._clock.sleep(0.05)

    async def _assign(self, assignment: agent_pb2.Assignment, node_id: str) -> None:
        desired = TaskState(assignment.desired_state)
        runner = self._runners.get(assignment.task_id)
        if runner is not None:
            runner.want(desired)
            await self._database.put(runner.record)
            return
        known = self._specs.get((assignment.service_id, assignment.spec_version))
        if known is None:
            return  # the spec is gone at the managers: the task is about to be, too
        record = TaskRecord(
            task_id=assignment.task_id,
            service_id=assignment.service_id,
            service_name=assignment.service_name,
            spec_version=assignment.spec_version,
            slot=assignment.slot,
            node_id=node_id,
            desired=desired,
            template=known[0],
            ports=known[1],
        )
        await self._database.put(record)
        self._run(record)

    async def _withdraw(self, task_id: str) -> None:
        runner = self._runners.get(task_id)
        if runner is not None:
            runner.want(TaskState.REMOVE, removed=True)
            await self._database.put(runner.record)

    def _run(self, record: TaskRecord) -> None:
        runner = TaskRunner(record, self._executor, self._clock, self._changed)
        self._runners[record.task_id] = runner
        self._note(record.task_id, record.status)
        self._nursery.start(f"task {record.task_id}", self._to_the_end(runner))

    async def _to_the_end(self, runner: TaskRunner) -> None:
        await runner.run()
        del self._runners[runner.record.task_id]
        self.reporter.forget(runner.record.task_id)
        await self._database.delete(runner.record.task_id)

    async def _changed(self, record: TaskRecord) -> None:
        await self._database.put(record)
        self._note(record.task_id, record.status)

    def _note(self, task_id: str, status: TaskStatus) -> None:
        self.reporter.note(task_id, status)
        self._news()
