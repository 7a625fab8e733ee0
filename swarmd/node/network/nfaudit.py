"""Whether our tables hold what was written into them, found out by reading them back.

The kernel counts every change of the ruleset, by whomever.  As long as the count is what our own writes make
it, nothing has to be read.  Calls block.
"""

from __future__ import annotations

from collections.abc import Collection

from swarmd.node.network import nfread
from swarmd.node.network.core.audit import set_differs
from swarmd.node.network.core.family import Family
from swarmd.node.network.ruleset import TABLE
from swarmd.node.network.tables import Tables
from swarmd.node.network.wire import Netlink


class RuleAudit:
    """Looks after the rules and the sets of our tables."""

    def __init__(self, netlink: Netlink, tables: Tables) -> None:
        self._netlink = netlink
        self._tables = tables
        self._families: Collection[Family] = ()
        self._rules: dict[Family, str] = {}
        self._expected = -1

    def begin(self, families: Collection[Family]) -> None:
        """The rules are those we want now: remember what they look like.

        What a daemon finds loaded is taken to be what its predecessor loaded.
        """
        self._families = families
        self._rules = {family: nfread.fingerprint(self._netlink, family, TABLE) for family in families}
        self.settle()

    def settle(self) -> None:
        """Everything is as wanted now, whoever changed it."""
        self._expected = nfread.generation(self._netlink) - self._tables.commits

    def touched(self) -> bool:
        """Whether somebody else has changed the ruleset, ours or another's, since all was well."""
        return nfread.generation(self._netlink) - self._tables.commits != self._expected

    def bent(self) -> list[str]:
        """A sentence for each table whose rules are not those that were loaded."""
        return [
            f"the rules of nftables table {family} {TABLE} were changed by somebody else"
            for family, known in self._rules.items()
            if nfread.fingerprint(self._netlink, family, TABLE) != known
        ]

    def differing(self, *, adopt: bool = False) -> list[str]:
        """A sentence for each set that holds something else than is wanted.

        With ``adopt`` the next write makes it so again, by difference.
        """
        sentences = []
        for (family, name), wanted in self._tables.wanted().items():
            if family not in self._families:
                continue
            found = nfread.elements(self._netlink, family, TABLE, name)
            if found != wanted:
                sentences.append(set_differs(family, name, wanted, found))
                if adopt:
                    self._tables.adopt(family, name, found)
        return sentences
