"""Named volumes of one node: plain directories, made on first use.  An anonymous one dies with its task."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from swarmd.model.errors import Invalid, Unavailable
from swarmd.model.spec import MountSpec

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class Volumes:
    """``<data dir>/volumes/<name>/_data``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, task_id: str, mount: MountSpec) -> str:
        """The directory behind a volume mount; raises Invalid for a bad name, Unavailable without room."""
        name = mount.source or f"task-{task_id}-{mount.target.strip('/').replace('/', '_')}"
        if not _NAME.fullmatch(name):
            raise Invalid(
                f'invalid volume name "{name}": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed. '
                "If you intended to pass a host directory, use type=bind"
            )
        data = self._root / name / "_data"
        try:
            data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f'volume "{name}" cannot be made: {error}') from error
        return str(data)

    def remove_anonymous(self, task_id: str) -> None:
        """The task is gone for good."""
        for directory in self._root.glob(f"task-{task_id}-*"):
            shutil.rmtree(directory, ignore_errors=True)
