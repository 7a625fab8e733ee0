"""Keeps the sets of the ruleset as they are wanted, by the difference to what was written before."""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.node.mesh.core.table import INTERVALS, Elements, difference
from swarmd.node.network import nfset
from swarmd.node.network.ruleset import TABLE
from swarmd.node.network.wire import Netlink


class Tables:
    """Wanted and written elements by set.  A set whose content is not known is flushed and filled."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._wanted: dict[str, Elements] = {}
        self._written: dict[str, Elements] = {}

    def want(self, table: Mapping[str, Elements]) -> None:
        """Replace what is wanted in these sets; the others stay as they are."""
        self._wanted.update(table)

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
        changes = [change for name in wanted if (change := self._change(name, wanted[name]))]
        if changes:
            nfset.commit(self._netlink, TABLE, changes)
        self._written.update(wanted)

    def _change(self, name: str, wanted: Elements) -> nfset.Change | None:
        interval = name in INTERVALS
        if name not in self._written:
            return nfset.Change(name=name, flush=True, remove={}, add=wanted, interval=interval)
        found = difference(self._written[name], wanted)
        if not found:
            return None
        return nfset.Change(name=name, flush=False, remove=found.remove, add=found.add, interval=interval)
