"""Decide which node each pending task goes to.

    group ──► filters ──► heap of places, best first ──► one task each time, the place goes back into the heap

A task that already names its node (a global one) only has to pass the filters there.  Nothing is kept: what
was decided is counted out again, and comes back with the store's events once it is true.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable

from swarmd.manager.plan import Plan, Step
from swarmd.manager.scheduler.core.filters import Reason, explain, rejects
from swarmd.manager.scheduler.core.places import Place, Want
from swarmd.manager.scheduler.core.swarm import Swarm
from swarmd.model.objects import Task
from swarmd.model.replace import replace
from swarmd.model.states import TaskState
from swarmd.store.core.transaction import Put

ASSIGNED = "scheduler assigned task to node"
CONFIRMED = "scheduler confirmed task can run on preassigned node"


def plan_groups(swarm: Swarm, groups: Iterable[str], *, now: float) -> Plan:
    """Place the pending tasks of ``groups``; write down for the others why they wait."""
    steps: list[Step] = []
    placed: list[str] = []
    for group in groups:
        tasks = swarm.pending(group)
        want = swarm.want(tasks[0]) if tasks else None
        if want is None:
            continue
        reasons: set[Reason] = set()
        bound = [task for task in tasks if task.node_id]
        free = [task for task in tasks if not task.node_id]
        for before, after in (
            *_confirm(swarm, want, bound, reasons, now),
            *_spread(swarm, want, free, reasons, now),
        ):
            if after.state == TaskState.ASSIGNED:
                placed.append(after.id)
            if after != before:
                steps.append((Put(after),))
        swarm.note_waiting(group, reasons)
    for task_id in placed:
        swarm.give_back(task_id)
    return Plan(steps=tuple(steps))


def _confirm(
    swarm: Swarm, want: Want, tasks: list[Task], reasons: set[Reason], now: float
) -> Iterable[tuple[Task, Task]]:
    for task in tasks:
        reason = rejects(swarm.place(task.node_id), want)
        if reason is None:
            yield task, _assigned(swarm, task, task.node_id, CONFIRMED, now)
        else:
            reasons.add(reason)
            yield task, _explained(task, explain(Counter([reason]), want))


def _spread(
    swarm: Swarm, want: Want, tasks: list[Task], reasons: set[Reason], now: float
) -> Iterable[tuple[Task, Task]]:
    if not tasks:
        return
    rejected: Counter[Reason] = Counter()
    heap: list[tuple[tuple[bool, int, int, str, str], str]] = []
    for node_id, place in swarm.places.items():
        if place.node is not None:
            _offer(heap, rejected, node_id, place, want, now)
    heapq.heapify(heap)
    for number, task in enumerate(tasks):
        if not heap:
            text = explain(rejected, want)
            reasons.update(rejected or (Reason.NOT_READY,))
            yield from ((left, _explained(left, text)) for left in tasks[number:])
            return
        node_id = heap[0][1]
        yield task, _assigned(swarm, task, node_id, ASSIGNED, now)
        place = swarm.place(node_id)
        reason = rejects(place, want)
        if reason is None:
            heapq.heapreplace(heap, (place.rank(want, now), node_id))
        else:
            heapq.heappop(heap)
            rejected[reason] += 1


def _offer(
    heap: list[tuple[tuple[bool, int, int, str, str], str]],
    rejected: Counter[Reason],
    node_id: str,
    place: Place,
    want: Want,
    now: float,
) -> None:
    reason = rejects(place, want)
    if reason is None:
        heap.append((place.rank(want, now), node_id))
    else:
        rejected[reason] += 1


def _assigned(swarm: Swarm, task: Task, node_id: str, message: str, now: float) -> Task:
    status = replace(task.status, state=TaskState.ASSIGNED, at=now, message=message, error="")
    after = replace(task, node_id=node_id, status=status)
    swarm.take(after)
    return after


def _explained(task: Task, text: str) -> Task:
    return task if task.status.error == text else replace(task, status=replace(task.status, error=text))
