"""Which number a version of a service's task template gets: its own again when it was there before.

Tasks that were made from an equal template are up to date then, and nobody restarts them: a rollback leaves
alone what the failed update had not reached.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.model.objects import SpecVersion
from swarmd.model.spec import PortSpec, TaskTemplate


def number_for(
    template: TaskTemplate, ports: tuple[PortSpec, ...], versions: Iterable[SpecVersion]
) -> tuple[int, bool]:
    """(number, whether its row exists).  ``versions``: all rows of the service; of its ports counts what
    :func:`of_tasks` leaves."""
    known, wanted = list(versions), of_tasks(ports)
    same = [row.number for row in known if (row.template, of_tasks(row.ports)) == (template, wanted)]
    if same:
        return max(same), True
    return max((row.number for row in known), default=0) + 1, False


def of_tasks(ports: Iterable[PortSpec]) -> frozenset[PortSpec]:
    """What of a service's ports is its tasks' business: only a change of that replaces them."""
    return frozenset(port.of_task for port in ports)
