"""A container of this node as lists show it."""

from __future__ import annotations

from swarmd.node.containers.local import LocalContainers
from swarmd.node.runtime.port import ContainerState
from swarmd.rpc.v1 import containers_pb2 as pb


def view(here: LocalContainers, state: ContainerState) -> pb.ContainerView:
    """Everything of it that a list may show."""
    config = here.runtime.config(state.id)
    labels = dict(config.labels) if config is not None else {}
    return pb.ContainerView(
        id=state.id,
        name=here.name_of(state.id),
        image=here.image_of(state.id).partition("@")[0],
        command=config.args if config is not None else (),
        started_at=state.started_at,
        finished_at=state.finished_at,
        status="paused" if state.paused else state.status,
        exit_code=state.exit_code or 0,
        error=state.error,
        labels=labels,
        pid=state.pid,
        health=here.health_of(state.id),
        task_id=labels.get("com.docker.swarm.task.id", ""),
    )
