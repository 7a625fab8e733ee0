"""Decide which slots a replicated service has.

slots in use + replicas  ──►  lowest free numbers are filled, the least useful slots removed
"""

from __future__ import annotations

from collections import Counter

from swarmd.manager.orchestrator.core.draft import Draft, Key
from swarmd.manager.orchestrator.core.restart import is_finished
from swarmd.model.states import TaskState


def settle_slots(draft: Draft) -> list[Key]:
    """Bring the number of slots to the service's replicas; answers the slots there are then."""
    used = [key for key in draft.keys if draft.wanted(key) or is_finished(draft, key)]
    replicas = draft.service.spec.replicas
    if len(used) > replicas:
        ranked = _most_useful_first(draft, used)
        for key in ranked[replicas:]:
            draft.remove(key)
        used = ranked[:replicas]
    for key in _free_slots(used, replicas - len(used)):
        draft.add(key)
        used.append(key)
    return sorted(used)


def _free_slots(used: list[Key], count: int) -> list[Key]:
    taken = set(used)
    free: list[Key] = []
    number = 1
    while len(free) < count:
        if number not in taken:
            free.append(number)
        number += 1
    return free


def _most_useful_first(draft: Draft, keys: list[Key]) -> list[Key]:
    """Running before others, low before high; but a node's second copy comes after every node's first.

    Slots that are on no node yet, or at rest, are missed the least.
    """
    copies: Counter[str] = Counter()
    ranks: dict[Key, tuple[bool, int, bool, Key]] = {}
    for key in sorted(keys, key=lambda key: (not _runs(draft, key), key)):
        node_id = next((task.node_id for task in reversed(draft.live(key)) if task.node_id), "")
        copies[node_id] += 1
        ranks[key] = (not node_id, copies[node_id], not _runs(draft, key), key)
    return sorted(keys, key=ranks.__getitem__)


def _runs(draft: Draft, key: Key) -> bool:
    return any(task.state == TaskState.RUNNING for task in draft.live(key))
