"""Rows as users see them on the wire."""

from __future__ import annotations

from swarmd.control import lookup
from swarmd.control.logs import LogItem
from swarmd.model.objects import Node, Service, Task
from swarmd.model.states import TaskState
from swarmd.rpc import codec
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.store.store import Store


def service_view(service: Service, counts: tuple[int, int]) -> pb.ServiceView:
    """A service with how many of its tasks run, and should."""
    view = pb.ServiceView(running=counts[0], desired=counts[1])
    codec.fill(view.service, service)
    return view


def task_view(store: Store, task: Task) -> pb.TaskView:
    """A task with what a list of tasks shows of its spec, service and node."""
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


def tasks_of(store: Store, request: pb.ListTasksRequest) -> list[Task]:
    """The tasks that a request asks for: one, a service's, a node's or all.  Raises NotFound, Invalid."""
    if request.task_ref:
        return [lookup.task(store, request.task_ref)]
    if request.service_id:
        return list(store.tasks_of_service(lookup.service(store, request.service_id).id))
    if request.node_id:
        return list(store.tasks_of_node(lookup.node(store, request.node_id).id))
    return list(store.all(Task))


def log_line(item: LogItem) -> pb.LogsResponse:
    """A line of a log, or a warning in its place."""
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
