"""Decide which container of this node a user means: by id, by name, by a unique prefix of an id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from swarmd.model.errors import Invalid

TASK_NAME = "com.docker.swarm.task.name"


class Named(msgspec.Struct, frozen=True):
    """A container with its names: its own ("box"), or its task's ("web.3" and "web.3.<id>")."""

    id: str
    names: tuple[str, ...] = ()
    runs: bool = False
    created_at: float = 0.0


def task_names(label: str, container_id: str) -> tuple[str, ...]:
    """The names of a task's container, from the label that it carries."""
    if not label:
        return ()
    short = label.removesuffix(f".{container_id}")
    return (f"{short}.{container_id}", short)


def exact(ref: str, containers: Iterable[Named]) -> str | None:
    """The container with that id or name: of several of one slot the running one, else the newest."""
    found = [each for each in containers if ref == each.id or ref in each.names]
    return max(found, key=lambda each: (each.runs, each.created_at)).id if found else None


def by_prefix(ref: str, containers: Sequence[Named]) -> str | None:
    """The container whose id, or whose task's name with its id, begins so.  Raises Invalid for several."""
    found = [
        each.id
        for each in containers
        if ref and (each.id.startswith(ref) or any(_begins(name, ref, each.id) for name in each.names))
    ]
    if len(found) > 1:
        raise Invalid(f"Multiple IDs found with provided prefix: {ref}")
    return found[0] if found else None


def _begins(name: str, ref: str, container_id: str) -> bool:
    """Tables show "web.3.<beginning of the id>"."""
    return (
        name.endswith(f".{container_id}")
        and ref.rpartition(".")[2] != ""
        and (name.startswith(ref) and len(ref) > len(name) - len(container_id))
    )
