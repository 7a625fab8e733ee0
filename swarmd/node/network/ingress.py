"""Published ports as the kernel serves them: what changes in the sets when some of the ports change."""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.node.mesh.core import published
from swarmd.node.mesh.core.published import PortKey, Target
from swarmd.node.mesh.core.table import Changes, Difference, Table, Tables, difference
from swarmd.node.network.core.family import FAMILIES, Family
from swarmd.node.network.port import PublishedPort


class Ingress:
    """Remembers what each port has in the sets and how its connections are spread.  Ports that did not change
    cost a comparison; of the others few buckets move."""

    def __init__(self) -> None:
        self._ports: dict[PortKey, PublishedPort] = {}
        self._elements: dict[tuple[Family, PortKey], Table] = {}
        self._buckets: dict[tuple[Family, PortKey], tuple[Target, ...]] = {}

    def changes(self, ports: Iterable[PublishedPort]) -> Changes:
        """What becomes different in each set when exactly these ports are served."""
        wanted = {published.key_of(port): port for port in ports}
        changes: Changes = {
            family: {name: Difference({}, {}) for name in published.SETS} for family in FAMILIES
        }
        for key in self._ports.keys() - wanted.keys():
            for family in FAMILIES:
                _note(changes[family], self._elements.pop((family, key), {}), {})
                self._buckets.pop((family, key), None)
        for key, port in wanted.items():
            if self._ports.get(key) != port:
                for family in FAMILIES:
                    _note(changes[family], self._elements.get((family, key), {}), self._serve(port, family))
        self._ports = wanted
        return changes

    def _serve(self, port: PublishedPort, family: Family) -> Table:
        here = (family, published.key_of(port))
        made: Table = {}
        if published.in_kernel(port, family):
            members = published.targets(port, family)
            self._buckets[here] = published.spread(members, self._buckets.get(here, ()))
            made = published.elements(port, self._buckets[here], family)
        self._elements[here] = made
        return made

    def forget(self) -> None:
        for known in (self._ports, self._elements, self._buckets):
            known.clear()


def masked(ports: Iterable[PublishedPort]) -> Tables:
    """Containers that see the node's address, in the words of the sets."""
    every = tuple(ports)
    return {family: {"masked": published.masked(every, family)} for family in FAMILIES}


def _note(changes: dict[str, Difference], before: Table, after: Table) -> None:
    for name in before.keys() | after.keys():
        found = difference(before.get(name, {}), after.get(name, {}))
        changes[name].remove.update(found.remove)
        changes[name].add.update(found.add)
