"""Decide all that one service needs: slots, restarts, the update's next move.

    View ─► failures noted ─► slots settled ─► dead replaced ─► update advanced ─► ready released ─► Plan

Asked twice about the same rows it answers the same; asked about the rows it left it has nothing to add.
"""

from __future__ import annotations

from collections.abc import Callable

from swarmd.manager.orchestrator.core import global_, replicated, restart, update
from swarmd.manager.orchestrator.core.draft import Draft, View
from swarmd.manager.plan import Plan


def plan_service(view: View, *, now: float, new_id: Callable[[], str]) -> Plan:
    """What to change in ``view`` so that the service becomes what its spec says."""
    draft = Draft(view, now=now, new_id=new_id)
    is_global = view.service.spec.mode == "global"
    update.note_failures(draft, len(draft.keys) if is_global else view.service.spec.replicas)
    slots = global_.settle_slots(draft) if is_global else replicated.settle_slots(draft)
    for key in slots:
        restart.end_doubles(draft, key)
        restart.replace_dead(draft, key)
    skipped = [key for key in slots if is_global and global_.is_paused(draft, key)]
    update.advance(draft, slots, skipped)
    for key in slots:
        restart.release_ready(draft, key)
    return draft.plan()
