"""Let the connections of a task that is to stop end first, and say meanwhile what is waited for."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from swarmd.kit.clock import Clock
from swarmd.model.errors import SwarmError
from swarmd.node.agent.core.draining import Drain
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.network.port import Attachment, NetworkPort

Say = Callable[[str], None]


class Draining:
    """Asks the network how many connections are open until :class:`Drain` says that it is enough."""

    def __init__(self, network: NetworkPort, clock: Clock) -> None:
        self._network = network
        self._clock = clock
        self._log = structlog.get_logger()

    async def drain(self, record: TaskRecord, serves: Callable[[], bool], say: Say, *, patient: bool) -> None:
        """Return when the task may be stopped, or does not ``serves()`` any more.

        Not ``patient``: open connections are not waited for, only those that still come.
        """
        now = self._clock.monotonic()
        reachable = any(one.task_id == record.task_id and _is_open(one) for one in self._network.attached())
        drain = Drain(record.template, now, reachable=reachable, patient=patient)
        while serves():
            open_now = await self._connections(record.task_id) if reachable else 0
            now = self._clock.monotonic()
            wait = drain.look(now, open_now)
            if wait is None:
                if open_now:
                    self._log.info("task_stopped_with_connections", task=record.task_id, open=open_now)
                return
            if wait.message:
                say(wait.message)
            await self._clock.sleep(wait.seconds)

    async def _connections(self, task_id: str) -> int | None:
        try:
            return await self._network.connections(task_id)
        except SwarmError as error:
            self._log.warning("connections_not_counted", task=task_id, reason=str(error))
            return None


def _is_open(attachment: Attachment) -> bool:
    """Others than its own node may call it: at a published port, or in a network of the swarm."""
    return bool(attachment.published or attachment.networks)
