"""Which log-ins a node is told: those of registries that the images of its tasks come from."""

from __future__ import annotations

from swarmd.model import image_ref
from swarmd.model.errors import Invalid, Refused
from swarmd.model.objects import Task
from swarmd.model.registry import RegistryCredential
from swarmd.store.store import Store


def for_node(store: Store, node_id: str, host: str) -> RegistryCredential | None:
    """The swarm's log-in to ``host``, None when it has none.

    Raises Refused when no image of a live task of that node is of that host.
    """
    if not any(host in _hosts(store, task) for task in store.tasks_of_node(node_id) if task.is_live):
        raise Refused(f"no task of this node has an image of {host}")
    return store.get(RegistryCredential, host)


def _hosts(store: Store, task: Task) -> set[str]:
    version = store.spec_version(task.service_id, task.spec_version)
    if version is None:
        return set()
    container = version.template.container
    images = [container.image, *(mount.source for mount in container.mounts if mount.kind == "image")]
    return {host for host in map(_host, images) if host}


def _host(image: str) -> str:
    try:
        return image_ref.parse(image).name.partition("/")[0]
    except Invalid:
        return ""
