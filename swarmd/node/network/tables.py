"""Keeps the sets of the ruleset as they are wanted, by the difference to what was written before."""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.node.mesh.core.table import INTERVALS, Elements, difference
from swarmd.node.network import nfset
from swarmd.node.network.core.family import Family
from swarmd.node.network.ruleset import TABLE
from swarmd.node.network.wire import Netlink

_Set = tuple[Family, str]


class Tables:
    """Wanted and written elements by set.  A set whose content is not known is flushed and filled."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._wanted: dict[_Set, Elements] = {}
        self._written: dict[_Set, Elements] = {}
        self.commits = 0
        """Transactions that took effect so far."""

    def wanted(self) -> Mapping[tuple[Family, str], Elements]:
        """What each set is to hold."""
        return self._wanted

    def adopt(self, family: Family, name: str, found: Elements | None) -> None:
        """The kernel has this in the set, whatever was written; None: it has no such set."""
        if found is None:
            self._written.pop((family, name), None)
        else:
            self._written[family, name] = found

    def want(self, family: Family, table: Mapping[str, Elements]) -> None:
        """Replace what is wanted in these sets of one family; the others stay as they are."""
        self._wanted.update({(family, name): elements for name, elements in table.items()})

    def forget(self) -> None:
        """The kernel's content is not known any more: write everything next time."""
        self._written = {}

    def write(self) -> None:
        """One atomic transaction with all differences.  When it fails, one with everything.

        Raises :class:`OSError` when that fails too; ENOENT then means that the table is not there.
        """
        try:
            self._write()
        except OSError:
            if not self._written:
                raise
            self.forget()
            self._write()

    def _write(self) -> None:
        wanted = dict(self._wanted)
        changes = [change for one in wanted if (change := self._change(one, wanted[one]))]
        if changes:
            nfset.commit(self._netlink, TABLE, changes)
            self.commits += 1
        self._written.update(wanted)

    def _change(self, one: _Set, wanted: Elements) -> nfset.Change | None:
        family, name = one
        interval = name in INTERVALS
        if one not in self._written:
            return nfset.Change(family, name, flush=True, remove={}, add=wanted, interval=interval)
        found = difference(self._written[one], wanted)
        if not found:
            return None
        return nfset.Change(family, name, flush=False, remove=found.remove, add=found.add, interval=interval)
