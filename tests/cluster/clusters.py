"""One local cluster at a time, made when a test first needs one of its shape."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cluster.lab import Lab

REPOSITORY = Path(__file__).parents[2]
IMAGES = REPOSITORY / ".lab" / "images"


class Clusters:
    """Makes the cluster that is asked for; the one before goes first."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made = 0
        self.lab: Lab | None = None
        self._managers = 0

    def with_managers(self, managers: int) -> Lab:
        """A cluster of three nodes."""
        if self.lab is None or self._managers != managers:
            self.close()
            self._made += 1
            lab = Lab(f"t{os.getpid() % 10000}-{self._made}", self._root)
            self.lab, self._managers = lab, 0
            lab.up(nodes=3, managers=managers, images=[IMAGES / "nginx-1.12.tar", IMAGES / "nginx-1.13.tar"])
            self._managers = managers
        return self.lab

    def close(self) -> None:
        """Remove the present one."""
        if self.lab is not None:
            lab, self.lab = self.lab, None
            lab.down()
