"""Whether our tables hold what was written into them, found out by reading them back.

The kernel counts every change of the ruleset, by whomever.  As long as the count is what our own writes make
it, nothing has to be read.  Reading hundreds of thousands of elements takes the kernel seconds, so we may
write meanwhile: what seems to differ after that is asked for by itself.  Calls block.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from swarmd.node.mesh.core.table import INTERVALS, RANGES, Elements
from swarmd.node.network import nfread
from swarmd.node.network.core.audit import set_differs
from swarmd.node.network.core.family import Family
from swarmd.node.network.ruleset import TABLE
from swarmd.node.network.tables import Tables
from swarmd.node.network.wire import Netlink

Doubts = Mapping[tuple[Family, str], Collection[bytes] | None]
"""Sets, and the keys in them that may be wrong; None: all of them."""
_WHOLE = INTERVALS | RANGES
_MANY = 1000
"""So many elements are asked for one by one; of more the set is read."""


class RuleAudit:
    """Looks after the rules and the sets of our tables."""

    def __init__(self, netlink: Netlink, reading: Netlink, tables: Tables) -> None:
        self._netlink = netlink
        self._reading = reading
        self._tables = tables
        self._families: Collection[Family] = ()
        self._rules: dict[Family, str] = {}
        self._expected = self._seen = -1

    def begin(self, families: Collection[Family]) -> None:
        """The rules are those we want now: remember what they look like.

        What a daemon finds loaded is taken to be what its predecessor loaded.
        """
        self._families = families
        self._rules = {family: nfread.fingerprint(self._netlink, family, TABLE) for family in families}
        self._expected = self._seen = self._strange()

    def touched(self) -> bool:
        """Whether somebody else has changed the ruleset, ours or another's, since all was well."""
        self._seen = self._strange()
        return self._seen != self._expected

    def settle(self) -> None:
        """Everything was as wanted, or is, when it was looked at last, whoever changed it."""
        self._expected = self._seen

    def _strange(self) -> int:
        return nfread.generation(self._netlink) - self._tables.commits

    def bent(self) -> list[str]:
        """A sentence for each table whose rules are not those that were loaded."""
        return [
            f"the rules of nftables table {family} {TABLE} were changed by somebody else"
            for family, known in self._rules.items()
            if nfread.fingerprint(self._netlink, family, TABLE) != known
        ]

    def doubts(self) -> Doubts:
        """What seems to differ.  The only one that may be called while we write."""
        found: dict[tuple[Family, str], Collection[bytes] | None] = {}
        for family, name in tuple(self._tables.wanted()):
            if family in self._families:
                there = nfread.elements(self._reading, family, TABLE, name)
                wanted = dict(self._tables.wanted()[family, name])
                if there != wanted:
                    found[family, name] = _different(wanted, there) if name not in _WHOLE and there else None
        return found

    def differing(self, doubts: Doubts, *, adopt: bool = False) -> list[str]:
        """A sentence for each of these sets that holds something else than is wanted.

        With ``adopt`` the next write makes it so again, by difference.
        """
        sentences = []
        for (family, name), keys in doubts.items():
            wanted = self._tables.wanted()[family, name]
            if keys is None or len(keys) > _MANY:
                found = nfread.elements(self._netlink, family, TABLE, name)
            else:
                found = {key: value for key, value in wanted.items() if key not in keys}
                for key in keys:
                    found.update(nfread.element(self._netlink, family, TABLE, name, key))
            if found != wanted:
                sentences.append(set_differs(family, name, wanted, found))
                if adopt:
                    self._tables.adopt(family, name, found)
        return sentences


def _different(wanted: Elements, there: Elements) -> frozenset[bytes]:
    """Keys that only one of them has, or with another value."""
    missing = object()
    keys = {key for key, value in wanted.items() if there.get(key, missing) != value}
    return frozenset(keys | (there.keys() - wanted.keys()))
