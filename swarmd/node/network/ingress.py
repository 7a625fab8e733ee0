"""Published ports as the kernel serves them: what changes in the sets when some of the ports change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from swarmd.node.mesh.core import published
from swarmd.node.mesh.core.published import PortKey, Target
from swarmd.node.mesh.core.table import Changes, Difference, Table, difference
from swarmd.node.network.core.family import FAMILIES, Family
from swarmd.node.network.port import PublishedPort


class Ingress:
    """Remembers what each port has in the sets and how its connections are spread: of a port that changes few
    buckets move, and the others cost nothing."""

    def __init__(self) -> None:
        self._ports: dict[PortKey, PublishedPort] = {}
        self._elements: dict[tuple[Family, PortKey], Table] = {}
        self._buckets: dict[tuple[Family, PortKey], tuple[Target, ...]] = {}
        self._masking: Counter[tuple[Family, bytes]] = Counter()

    def served(self, keys: Iterable[PortKey]) -> list[PublishedPort]:
        """Those of these that are served now."""
        return [port for key in keys if (port := self._ports.get(key))]

    def changes(self, ports: Mapping[PortKey, PublishedPort | None]) -> Changes:
        """What becomes different in each set when these ports are served so (None: no longer)."""
        changes: Changes = {
            family: {name: Difference({}, {}) for name in published.SETS} for family in FAMILIES
        }
        before = {key: self._ports.pop(key, None) for key in ports}
        for key, port in ports.items():
            if port is not None:
                self._ports[key] = port
            if port != before[key]:
                for family in FAMILIES:
                    _note(
                        changes[family], self._elements.pop((family, key), {}), self._serve(key, port, family)
                    )
        for family in FAMILIES:
            changes[family]["masked"] = self._mask(before.values(), ports.values(), family)
        return changes

    def _serve(self, key: PortKey, port: PublishedPort | None, family: Family) -> Table:
        before = self._buckets.pop((family, key), ())
        if port is None or not published.in_kernel(port, family):
            return {}
        buckets = published.spread(published.targets(port, family), before)
        made = published.elements(port, buckets, family)
        self._buckets[family, key], self._elements[family, key] = buckets, made
        return made

    def _mask(
        self,
        before: Iterable[PublishedPort | None],
        after: Iterable[PublishedPort | None],
        family: Family,
    ) -> Difference:
        """Containers that see the node's address.  Several ports may lead to one."""
        changed = Counter[bytes]()
        for port in after:
            changed.update(published.masked(port, family) if port else ())
        for port in before:
            changed.subtract(published.masked(port, family) if port else ())
        found = Difference({}, {})
        for element, number in changed.items():
            had = self._masking.pop((family, element), 0)
            if had + number:
                self._masking[family, element] = had + number
            if bool(had) != bool(had + number):
                (found.remove if had else found.add)[element] = None
        return found

    def forget(self) -> None:
        for known in (self._ports, self._elements, self._buckets, self._masking):
            known.clear()


def _note(changes: dict[str, Difference], before: Table, after: Table) -> None:
    for name in before.keys() | after.keys():
        found = difference(before.get(name, {}), after.get(name, {}))
        changes[name].remove.update(found.remove)
        changes[name].add.update(found.add)
