"""Let a service's new tasks go on once it has its ports and virtual addresses, and they have their own.

Until then a task says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

from swarmd.manager.allocator.core.addresses import Given, Owner, Turn
from swarmd.manager.orchestrator.core.health import is_dead, never_runs
from swarmd.manager.plan import Step
from swarmd.model.network import NetworkAttachment, TaskNetwork, VirtualIp, attachments
from swarmd.model.objects import AddressAllocation, Node, Service, Task
from swarmd.model.replace import replace
from swarmd.model.states import TaskState
from swarmd.store.core.transaction import Change, Delete, Put

PENDING = "pending task scheduling"


class Released(msgspec.Struct, frozen=True):
    """``waits``: some new tasks still lack something."""

    steps: tuple[Step, ...]
    waits: bool


class Vips(msgspec.Struct, frozen=True, kw_only=True):
    """The virtual addresses of a service; ``error``: not all can be had, and why; ``later``: not yet."""

    vips: tuple[VirtualIp, ...] = ()
    changes: tuple[Change, ...] = ()
    error: str = ""
    later: bool = False


def grant_vips(service: Service, turn: Turn, held: Collection[AddressAllocation]) -> Vips:
    """One for each network, unless names are to lead to the tasks themselves.

    ``held``: the service's allocations.  An address it has stays its own; what it needs no more is freed.
    """
    had = {one.network_id: one for one in service.vips}
    mine = {row.address for row in held}
    vips: list[VirtualIp] = []
    changes: list[Change] = []
    lacks: list[Given] = []
    for wanted in (
        attachments(service.spec.template.networks) if service.spec.endpoint_mode != "dnsrr" else ()
    ):
        old = had.get(wanted.target)
        if old is not None and mine.issuperset(old.addresses) and wanted.vip in ("", *old.addresses):
            vips.append(old)
            continue
        given = turn.give(wanted.target, Owner("service", service.id), (wanted.vip,) if wanted.vip else ())
        changes.extend(given.changes)
        if not given.addresses:
            lacks.append(given)
        else:
            vips.append(VirtualIp(network_id=wanted.target, addresses=given.addresses))
    kept = {(vip.network_id, address) for vip in vips for address in vip.addresses}
    changes.extend(
        Delete(AddressAllocation, row.id, row.version)
        for row in held
        if (row.network_id, row.address) not in kept
    )
    return Vips(
        vips=tuple(vips),
        changes=tuple(changes),
        error=next((one.error for one in lacks), ""),
        later=bool(lacks),
    )


def release(
    tasks: Iterable[Task],
    networks_of: Callable[[Task], tuple[NetworkAttachment, ...]],
    turn: Turn,
    *,
    now: float,
    error: str = "",
) -> Released:
    """New tasks become pending, each with its addresses; ``error``: what their service lacks."""
    steps: list[Step] = []
    waits = bool(error)
    for task in sorted(tasks, key=lambda task: (task.created_at, task.slot, task.id)):
        if task.state != TaskState.NEW or task.desired_state > TaskState.RUNNING:
            continue
        fresh, changes = _addressed(task, networks_of(task), turn) if not error else (error, [])
        if isinstance(fresh, str):
            after = replace(task.status, error=fresh) if fresh else task.status
            task_after, waits = replace(task, status=after), True
        else:
            status = replace(task.status, state=TaskState.PENDING, at=now, message=PENDING, error="")
            task_after = replace(task, status=status, networks=fresh)
        if task_after != task or changes:
            steps.append((*((Put(task_after),) if task_after != task else ()), *changes))
    return Released(tuple(steps), waits)


def is_over(task: Task | None, node: Node | None) -> bool:
    """Its addresses may be given to others: it has ended, never runs, or is to end on a node that is dead."""
    return (
        task is None
        or task.state.is_terminal
        or never_runs(task)
        or (task.desired_state > TaskState.RUNNING and is_dead(node))
    )


def _addressed(
    task: Task, networks: tuple[NetworkAttachment, ...], turn: Turn
) -> tuple[tuple[TaskNetwork, ...] | str, list[Change]]:
    """The task's addresses and their rows; or what is missing ("" when the next turn will see) and what a
    network that grew needs written."""
    got: list[TaskNetwork] = []
    changes: list[Change] = []
    for wanted in attachments(networks):
        fixed = wanted.addresses[task.slot - 1 : task.slot] if task.slot else ()
        given = turn.give(wanted.target, Owner("task", task.id), fixed)
        if not given.addresses:
            return given.error, [*turn.take_back(changes), *given.changes]
        got.append(TaskNetwork(network_id=wanted.target, addresses=given.addresses))
        changes.extend(given.changes)
    return tuple(got), changes
