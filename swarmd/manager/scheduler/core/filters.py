"""Why a node will not do, one reason each, and the sentence a user reads while a task is pending.

no suitable node (scheduling constraints not satisfied on 3 nodes; insufficient resources on 2 nodes)
"""

from __future__ import annotations

import enum
from collections import Counter

from swarmd.manager.scheduler.core.places import Place, Want
from swarmd.model import constraint
from swarmd.model.objects import EVERY_DEVICE
from swarmd.model.ports import clashing
from swarmd.model.states import Availability, NodeState
from swarmd.model.waiting import PLACES_TAKEN, PORT_IN_USE

LOCAL = ("local",)
"""The runtimes of a node that does not say which it has."""


class Reason(enum.Enum):
    """The value tells one node and several; the order is that of the questions asked.

    A name in braces is a field of what the task wants.
    """

    NOT_READY = ("1 node not available for new tasks", "{} nodes not available for new tasks")
    RESOURCES = ("insufficient resources on 1 node", "insufficient resources on {} nodes")
    CONSTRAINTS = (
        "scheduling constraints not satisfied on 1 node",
        "scheduling constraints not satisfied on {} nodes",
    )
    TOO_OLD = ("swarmd too old on 1 node", "swarmd too old on {} nodes")
    RUNTIME = ("missing runtime {runtime} on 1 node", "missing runtime {runtime} on {} nodes")
    DEVICES = ("devices not offered on 1 node", "devices not offered on {} nodes")
    HOST_PORT = (f"{PORT_IN_USE} on 1 node", f"{PORT_IN_USE} on {{}} nodes")
    MAX_REPLICAS = (PLACES_TAKEN, PLACES_TAKEN)

    @property
    def ends_with_a_task(self) -> bool:
        """The end of some task can remove it."""
        return self in (Reason.RESOURCES, Reason.HOST_PORT, Reason.MAX_REPLICAS)

    def text(self, count: int, want: Want) -> str:
        one, several = self.value
        return (one if count == 1 else several).format(count, runtime=want.runtime)


def rejects(place: Place, want: Want) -> Reason | None:
    """The first reason why a task of ``want`` cannot be there now; None if it can."""
    node = place.node
    if node is None or node.status.state != NodeState.READY or node.spec.availability != Availability.ACTIVE:
        return Reason.NOT_READY
    if not _has_room(place, want):
        return Reason.RESOURCES
    if not constraint.meets(want.constraints, node):
        return Reason.CONSTRAINTS
    if node.description.feature_level < want.level:
        return Reason.TOO_OLD
    if want.runtime and want.runtime not in (node.description.runtimes or LOCAL):
        return Reason.RUNTIME
    if EVERY_DEVICE not in node.description.devices and not want.devices.issubset(node.description.devices):
        return Reason.DEVICES
    if any(clashing(port, place.ports) for port in want.ports):
        return Reason.HOST_PORT
    if 0 < want.max_replicas <= place.live_of[want.service_id]:
        return Reason.MAX_REPLICAS
    return None


def explain(rejected: Counter[Reason], want: Want) -> str:
    """The reasons by how many nodes they rule out, the most frequent first."""
    if not rejected:
        return "no suitable node"
    order = list(Reason)
    ranked = sorted(rejected.items(), key=lambda item: (-item[1], order.index(item[0])))
    return f"no suitable node ({'; '.join(reason.text(count, want) for reason, count in ranked)})"


def _has_room(place: Place, want: Want) -> bool:
    node = place.node
    if node is None:
        return False
    description = node.description
    return (not want.nano_cpus or place.nano_cpus + want.nano_cpus <= description.nano_cpus) and (
        not want.memory or place.memory + want.memory <= description.memory
    )
