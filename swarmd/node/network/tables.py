"""Keeps the sets of the ruleset as they are wanted, by the difference to what was written before."""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.node.mesh.core.table import INTERVALS, RANGES, Difference, Elements, difference
from swarmd.node.network import nfread, nfset
from swarmd.node.network.core.family import Family
from swarmd.node.network.ruleset import TABLE
from swarmd.node.network.wire import Netlink

_Set = tuple[Family, str]


class Tables:
    """Wanted elements by set, and what the kernel lacks of them.  A set whose content is not known is flushed
    and filled."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._wanted: dict[_Set, Elements] = {}
        self._known: set[_Set] = set()
        self._pending: dict[_Set, Difference] = {}
        self.commits = 0
        """Transactions that took effect so far."""

    def wanted(self) -> Mapping[tuple[Family, str], Elements]:
        """What each set is to hold."""
        return self._wanted

    def adopt(self, family: Family, name: str, found: Elements | None) -> None:
        """The kernel has this in the set, whatever was written; None: it has no such set."""
        one = (family, name)
        self._known.discard(one)
        self._pending.pop(one, None)
        if found is not None:
            self._known.add(one)
            self._note(one, difference(found, self._wanted.get(one, {})))

    def want(self, family: Family, table: Mapping[str, Elements]) -> None:
        """Replace what is wanted in these sets of one family; the others stay as they are."""
        for name, elements in table.items():
            before = self._wanted.get((family, name), {})
            self._note((family, name), difference(before, elements))
            self._wanted[family, name] = dict(elements)

    def change(self, family: Family, changes: Mapping[str, Difference]) -> None:
        """Change what is wanted in these sets; an empty difference only says that the set is ours."""
        for name, found in changes.items():
            wanted = self._wanted.setdefault((family, name), {})
            for key in found.remove:
                wanted.pop(key, None)
            wanted.update(found.add)
            self._note((family, name), found)

    def forget(self) -> None:
        """The kernel's content is not known any more: write everything next time."""
        self._known.clear()
        self._pending.clear()

    def write(self) -> None:
        """One atomic transaction with all differences.  When it fails, one with everything.

        Raises :class:`OSError` when that fails too; ENOENT then means that the table is not there.
        """
        try:
            self._write()
        except OSError:
            if not self._known:
                raise
            self.forget()
            self._write()

    def _write(self) -> None:
        changes = [self._whole(one) for one in self._wanted if one not in self._known]
        changes += [
            nfset.Change(*one, flush=False, remove=found.remove, add=found.add, shape=_shape(one[1]))
            for one, found in self._pending.items()
            if found
        ]
        if any(change.remove or change.add for change in changes):
            nfset.commit(self._netlink, TABLE, changes)
            self.commits += 1
        elif changes:  # to flush what is empty is no transaction for the kernel
            before = nfread.generation(self._netlink)
            nfset.commit(self._netlink, TABLE, changes)
            self.commits += nfread.generation(self._netlink) - before
        self._known.update(self._wanted)
        self._pending.clear()

    def _whole(self, one: _Set) -> nfset.Change:
        return nfset.Change(*one, flush=True, remove={}, add=self._wanted[one], shape=_shape(one[1]))

    def _note(self, one: _Set, found: Difference) -> None:
        if one in self._known and found:
            pending = self._pending.get(one, Difference({}, {}))
            self._pending[one] = pending.then(found)


def _shape(name: str) -> nfset.Shape:
    if name in INTERVALS:
        return "interval"
    return "range" if name in RANGES else "point"
