"""Tasks, and the lines of their logs, as users are shown them."""

from __future__ import annotations

from swarmd.control.logs import LogItem
from swarmd.model.objects import Node, Service, Task
from swarmd.model.states import TaskState
from swarmd.rpc import codec
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.store.store import Store


def task_view(store: Store, task: Task) -> pb.TaskView:
    """A task with what its spec version, its service and its node say of it."""
    version = store.spec_version(task.service_id, task.spec_version)
    service = store.get(Service, task.service_id)
    node = store.get(Node, task.node_id) if task.node_id else None
    view = pb.TaskView(
        image=version.template.container.image if version else "",
        node_hostname=node.description.hostname if node else "",
        up_to_date=service is not None and service.spec_version == task.spec_version,
    )
    codec.fill(view.task, task)
    for port in version.ports if version and task.state is TaskState.RUNNING else ():
        if port.mode == "host":
            codec.fill(view.ports.add(), port)
    return view


def log_line(item: LogItem) -> pb.LogsResponse:
    """A line, or a warning, with the task and the node it comes from."""
    response = pb.LogsResponse(
        task_id=item.task.id,
        task_name=item.task.name,
        node_id=item.task.node_id,
        node_hostname=item.node.description.hostname if item.node else "",
        warning=item.warning,
    )
    if item.line is not None:
        response.at, response.stderr, response.line = item.line.at, item.line.stderr, item.line.data
    return response
