"""What an agent remembers of a task, durably: enough to go on with no manager in sight."""

from __future__ import annotations

import msgspec

from swarmd.model.network import TaskNetwork
from swarmd.model.objects import TaskStatus
from swarmd.model.spec import PortSpec, TaskTemplate
from swarmd.model.states import TaskState


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One assigned task.

    ``removed``: its assignment was withdrawn; stop, delete, forget.  ``service_labels``: as they were when
    the node was told of the service, for templates.  ``networks``: its addresses in networks of the swarm.
    """

    task_id: str
    service_id: str
    service_name: str
    spec_version: int
    slot: int
    node_id: str
    desired: TaskState
    template: TaskTemplate
    ports: tuple[PortSpec, ...] = ()
    status: TaskStatus = TaskStatus(state=TaskState.ASSIGNED)
    removed: bool = False
    service_labels: dict[str, str] = {}
    networks: tuple[TaskNetwork, ...] = ()

    @property
    def name(self) -> str:
        """``service.slot.task``, the container's name."""
        return f"{self.service_name}.{self.slot or self.node_id}.{self.task_id}"


def encode(record: TaskRecord) -> bytes:
    """A record as the task database keeps it."""
    return msgspec.msgpack.encode(record)


def decode(data: bytes) -> TaskRecord:
    """Raises msgspec.DecodeError when it is not one."""
    return msgspec.msgpack.decode(data, type=TaskRecord)
