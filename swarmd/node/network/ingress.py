"""Published ports as the kernel serves them: remembers how connections were spread, so that few move."""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.node.mesh.core import table
from swarmd.node.mesh.core.table import PortKey, Tables, Target
from swarmd.node.network.core.family import FAMILIES, Family
from swarmd.node.network.port import PublishedPort


class Ingress:
    """The buckets of every port, by family."""

    def __init__(self) -> None:
        self._buckets: dict[Family, dict[PortKey, tuple[Target, ...]]] = {family: {} for family in FAMILIES}

    def tables(self, ports: Iterable[PublishedPort]) -> Tables:
        """What the sets and maps are to hold for these ports; may take milliseconds for thousands."""
        every = tuple(ports)
        for family in FAMILIES:
            self._buckets[family] = table.spread(every, self._buckets[family], family)
        return {family: table.ingress_table(self._buckets[family]) for family in FAMILIES}

    def forget(self) -> None:
        for buckets in self._buckets.values():
            buckets.clear()
