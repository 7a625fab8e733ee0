"""What a volume is: its name, what is remembered of it, which of them a prune takes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping

import msgspec

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of a volume that nobody gave a name, as in Docker."""

_LEGACY = re.compile(r"task-[0-9a-z]{25}-.*")


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """``owner``: id of the task or container that an anonymous one dies with.  ``created_at``: since 1970."""

    name: str
    created_at: float = 0.0
    labels: Mapping[str, str] = {}
    owner: str = ""

    @property
    def is_anonymous(self) -> bool:
        return ANONYMOUS in self.labels


def anonymous_name(owner: str, target: str) -> str:
    """The same each time: a container that is made again after a crash finds its volume."""
    return hashlib.sha256(f"{owner}\0{target}".encode()).hexdigest()


def described(name: str, data: bytes | None, *, seen_at: float) -> Volume:
    """What is remembered of a volume; of one without metadata (0.1.0 wrote none) what its name says."""
    try:
        found = msgspec.json.decode(data, type=Volume) if data else None
    except msgspec.DecodeError:
        found = None
    if found is not None:
        return found if found.name == name else msgspec.structs.replace(found, name=name)
    if _LEGACY.fullmatch(name):
        return Volume(name=name, created_at=seen_at, labels={ANONYMOUS: ""}, owner=name.split("-")[1])
    return Volume(name=name, created_at=seen_at)


def prunable(
    volumes: Iterable[Volume], used: Collection[str], *, everything: bool, labels: Mapping[str, str | None]
) -> list[Volume]:
    """Those that a prune removes: unused ones, without ``everything`` only anonymous ones.

    ``labels``: each has to be there, with that value unless it is None.
    """
    return [
        volume
        for volume in volumes
        if volume.name not in used
        and (everything or volume.is_anonymous)
        and all(key in volume.labels and value in (None, volume.labels[key]) for key, value in labels.items())
    ]
