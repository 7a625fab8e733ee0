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
    """(number, whether its row exists).  ``versions``: all rows of the service; ports count as well, but
    not the host names and paths that lead to them."""
    known, unrouted = list(versions), bare(ports)
    same = [row.number for row in known if (row.template, bare(row.ports)) == (template, unrouted)]
    if same:
        return max(same), True
    return max((row.number for row in known), default=0) + 1, False


def bare(ports: tuple[PortSpec, ...]) -> tuple[PortSpec, ...]:
    """What of its ports is a task's business."""
    return tuple(dict.fromkeys(port.unrouted for port in ports))
