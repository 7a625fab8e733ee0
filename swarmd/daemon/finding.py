"""Where the container is that a user of this daemon's socket names: here, or on the node of a task.

    exactly one here ──► a task, as this manager knows it ──► one here by the beginning of its id

A container here is found without any manager; one elsewhere only by a manager, also by one without a leader.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from swarmd.api.containers import Elsewhere
from swarmd.control.core import which
from swarmd.daemon.managing import Managing
from swarmd.daemon.member import Member
from swarmd.model.errors import NotFound, Refused, Unavailable
from swarmd.model.objects import Node, Task
from swarmd.node.containers.local import LocalContainers

CATCH_UP = 2.0
"""Seconds that a manager tries to be as new as the leader before it goes by what it knows."""


class Finder:
    """``member``: this node's part in a swarm, while it has one."""

    def __init__(self, here: LocalContainers, member: Callable[[], Member | None]) -> None:
        self._here = here
        self._member = member

    async def find(self, ref: str) -> Elsewhere | str | None:
        """None: a container of this node by that name; its id where it was found by more.

        Raises NotFound, Invalid, Refused.
        """
        if self._here.exact(ref) is not None:
            return None
        member = self._member()
        if member is not None and member.managing is not None:
            try:
                task = await _known(ref, member.managing)
            except NotFound:
                pass
            else:
                return self._way(task, member, member.managing)
        elif member is not None:
            self._check_on_worker(ref)
            return None
        self._here.find(ref)
        return None

    def _check_on_worker(self, ref: str) -> None:
        try:
            self._here.find(ref)
        except NotFound as error:
            raise NotFound(
                f"{error} on this node, which is no manager: ask a manager for tasks of other nodes"
            ) from None

    def _way(self, task: Task, member: Member, managing: Managing) -> Elsewhere | str:
        if not task.node_id:
            raise Refused(f"task {task.name} runs nowhere: no node has been chosen for it yet")
        if task.node_id == member.memory.node_id and self._here.exact(task.id) is not None:
            return task.id
        node = managing.store.get(Node, task.node_id)
        if node is None:
            raise NotFound(f"node {task.node_id}, where task {task.name} ran, is no longer part of the swarm")
        return Elsewhere(
            container_id=task.id,
            hostname=node.description.hostname or node.id,
            using=lambda: member.channels.using(node.status.address, node.id),
        )


async def _known(ref: str, managing: Managing) -> Task:
    with contextlib.suppress(Unavailable):
        await managing.raft.read_index(timeout=CATCH_UP)
    return which.chosen(ref, list(managing.store.all(Task)))
