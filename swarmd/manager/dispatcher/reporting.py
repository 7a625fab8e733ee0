"""What nodes report of their tasks: gathered while the last commit is in flight, stored, acknowledged.

States only grow; a report that is older than what is stored is acknowledged and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from swarmd.kit.clock import Clock
from swarmd.manager.dispatcher.core import assignments
from swarmd.manager.dispatcher.session import Session
from swarmd.model.errors import Invalid, OutOfSequence
from swarmd.model.objects import Task, TaskStatus
from swarmd.model.replace import replace
from swarmd.model.states import TaskState
from swarmd.rpc import codec
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.core.transaction import Change, Put
from swarmd.store.store import Store
from swarmd.telemetry.tally import Timings

BOUNDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Of buckets, seconds."""

BATCH = 100
"""Statuses in one transaction."""

TEXT = 1000
"""Characters of a text that a node may have stored: a transaction has a limit, an error message none."""


class Reporting:
    """Statuses of all sessions, for one term.  ``starts``: from a task's making to its running."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.starts = Timings(BOUNDS)
        self._reports: dict[str, TaskStatus] = {}
        self._acks: list[tuple[Session, int]] = []
        self._reported = asyncio.Event()

    def take(self, session: Session, batch: agent_pb2.StatusBatch) -> None:
        """A node's batch; acknowledged once it is stored.  Raises Invalid for a state that is none."""
        for report in batch.reports:
            self._accept(session.node_id, report)
        self._acks.append((session, batch.sequence))
        self._reported.set()

    async def run(self) -> None:
        """Until cancelled at the end of the term."""
        while True:
            await self._reported.wait()
            self._reported.clear()
            reports, self._reports = list(self._reports.items()), {}
            acks, self._acks = self._acks, []
            for start in range(0, len(reports), BATCH):
                await self._store_batch(dict(reports[start : start + BATCH]))
            for session, sequence in acks:
                session.acknowledge(sequence)

    def _accept(self, node_id: str, report: agent_pb2.TaskReport) -> None:
        task = self._store.get(Task, report.task_id)
        if task is None or task.node_id != node_id:
            return
        status = _status_of(report)
        waiting = self._reports.get(report.task_id)
        if waiting is None or status.state >= waiting.state:
            self._reports[report.task_id] = status

    async def _store_batch(self, reports: Mapping[str, TaskStatus]) -> None:
        while True:
            changes: list[Change] = []
            made: list[float] = []
            for task_id, status in reports.items():
                task = self._store.get(Task, task_id)
                if task is not None and assignments.newer(task, status.state) and task.status != status:
                    changes.append(Put(replace(task, status=status)))
                    if status.state is TaskState.RUNNING and task.state < TaskState.RUNNING:
                        made.append(task.created_at)
            try:
                await self._store.commit(changes)
            except OutOfSequence:
                continue  # an orchestrator changed one of them meanwhile: read again
            for at in made:
                self.starts.add(max(0.0, self._clock.now() - at))
            return


def _status_of(report: agent_pb2.TaskReport) -> TaskStatus:
    try:
        status = codec.from_proto(TaskStatus, report.status)
    except ValueError as error:
        raise Invalid(
            f"task {report.task_id} is reported in state {report.status.state}, which is none"
        ) from error
    return replace(status, message=status.message[:TEXT], error=status.error[:TEXT])
