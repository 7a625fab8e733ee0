"""One node's session: what it still has to be told, woken when there is news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from swarmd.manager.dispatcher.board import KEPT_NETWORKS, MeshBoard
from swarmd.manager.dispatcher.core import assignments
from swarmd.manager.dispatcher.core.assignments import Delta
from swarmd.manager.dispatcher.networks import NOTHING, Told
from swarmd.manager.dispatcher.parts import parts
from swarmd.model.objects import SpecVersion, Task
from swarmd.rpc import codec
from swarmd.rpc.v1 import agent_pb2


class Session:
    """The outbox of one connected node: when it is woken it looks at the present; only orders are queued."""

    def __init__(
        self,
        node_id: str,
        *,
        tasks: Callable[[], Iterable[Task]],
        spec: Callable[[str, int], SpecVersion | None],
        labels: Callable[[str], Mapping[str, str]],
        info: Callable[[], agent_pb2.SessionInfo | None],
        mesh: MeshBoard,
        networks: Callable[[], Told],
        takes_parts: bool = True,
    ) -> None:
        self.node_id = node_id
        self._tasks = tasks
        self._spec = spec
        self._labels = labels
        self._info = info
        self._mesh = mesh
        self._networks = networks
        self._takes_parts = takes_parts
        self._told = assignments.Told()
        self._sequence = 0
        self._mesh_version = -1
        self._networks_told = NOTHING
        self._network_version = 0
        self._info_sent = b""
        self._acked = 0
        self._ack_due = 0
        self._preloads: list[agent_pb2.Preload] = []
        self._news = asyncio.Event()
        self._ended = False
        self._dismissed = False

    def wake(self) -> None:
        """Something of this node's may have changed."""
        self._news.set()

    def acknowledge(self, sequence: int) -> None:
        """The statuses of that batch are stored."""
        self._ack_due = max(self._ack_due, sequence)
        self.wake()

    def preload(self, order: agent_pb2.Preload) -> None:
        """The node is to fetch an image ahead.  Said once: who is lost meanwhile is not told again."""
        self._preloads.append(order)
        self.wake()

    def end(self) -> None:
        """No more messages: the session was replaced, or the term is over."""
        self._ended = True
        self.wake()

    def dismiss(self) -> None:
        """The node was removed: it is told what that means for its tasks, then no more."""
        self._dismissed = True
        self.wake()

    async def messages(self) -> AsyncIterator[agent_pb2.ManagerMessage]:
        """What to send, as it comes up, until :meth:`end` or :meth:`dismiss`.

        A network is told of before the tasks that are to be in it.
        """
        for message in (*self._info_due(), *self._network_due()):
            yield message
        yield self._assignments(self._told.whole(self._tasks()), complete=True)
        while not self._ended:
            for message in self._due():
                yield message
            if self._dismissed:
                return
            await self._news.wait()
            self._news.clear()

    def _due(self) -> list[agent_pb2.ManagerMessage]:
        due = [*self._info_due(), *self._network_due()]
        delta = self._told.advance(self._tasks())
        if not delta.is_empty:
            due.append(self._assignments(delta, complete=False))
        if self._ack_due > self._acked:
            self._acked = self._ack_due
            due.append(agent_pb2.ManagerMessage(ack=agent_pb2.StatusAck(sequence=self._acked)))
        due += [agent_pb2.ManagerMessage(preload=order) for order in self._preloads]
        self._preloads.clear()
        return due

    def _network_due(self) -> list[agent_pb2.ManagerMessage]:
        networks = self._networks()
        if self._mesh.version == self._mesh_version and networks is self._networks_told:
            return []
        message = self._mesh.snapshot(self.node_id, self._mesh_version)
        message.version = max(message.version, networks.version)
        if message.since:
            message.since = self._network_version
        if message.since and networks is self._networks_told:
            message.kept.append(KEPT_NETWORKS)
        else:
            for part in networks.parts:
                message.MergeFrom(part)
        self._mesh_version, self._networks_told = self._mesh.version, networks
        self._network_version = message.version
        snapshots = parts(message) if self._takes_parts else [message]
        return [agent_pb2.ManagerMessage(network=one) for one in snapshots]

    def _info_due(self) -> list[agent_pb2.ManagerMessage]:
        info = self._info()
        data = b"" if info is None else info.SerializeToString(deterministic=True)
        if info is None or data == self._info_sent:
            return []
        self._info_sent = data
        return [agent_pb2.ManagerMessage(session=info)]

    def _assignments(self, delta: Delta, *, complete: bool) -> agent_pb2.ManagerMessage:
        self._sequence += 1
        message = agent_pb2.Assignments(complete=complete, sequence=self._sequence, removed=delta.removed)
        for service_id, number in delta.specs:
            row = self._spec(service_id, number)
            if row is not None:
                spec = message.specs.add(service_id=service_id, number=number)
                codec.fill(spec.template, row.template)
                spec.labels.update(self._labels(service_id))
                for port in row.ports:
                    codec.fill(spec.ports.add(), port)
        for task in delta.tasks:
            assignment = message.tasks.add(
                task_id=task.id,
                service_id=task.service_id,
                service_name=task.service_name,
                spec_version=task.spec_version,
                slot=task.slot,
                desired_state=int(task.desired_state),
            )
            for network in task.networks:
                codec.fill(assignment.networks.add(), network)
        return agent_pb2.ManagerMessage(assignments=message)
