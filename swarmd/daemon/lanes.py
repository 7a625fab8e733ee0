"""Which managers' certificates count on the cluster port: roles, removals, dates.

TLS does not look at dates there.  When every manager was off for longer than its certificate lives, they
would not agree on a leader any more, and nobody could renew anything.  So an expired certificate counts
between managers that the store knows, and only the one that its manager used last: an older one, which may
have been copied long ago, opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from swarmd.kit.clock import Clock
from swarmd.model.errors import Denied
from swarmd.model.objects import Node, RemovedNode
from swarmd.security import ca, roots
from swarmd.store import standing
from swarmd.store.core.tables import Event
from swarmd.store.store import Store
from swarmd.store.watch import Overrun


class LaneRule:
    """``is_with``: whether a node is a member of a group whose log still matters; ``trusted``: the bundle."""

    def __init__(
        self,
        store: Callable[[], Store],
        clock: Clock,
        *,
        is_with: Callable[[str], bool],
        trusted: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._clock = clock
        self._is_with = is_with
        self._trusted = trusted

    def check(self, node_id: str, certificate: bytes) -> None:
        """Raises Denied for the certificate (DER, verified by TLS) of a manager that counts no more."""
        store = self._store()
        standing.check_not_removed(node_id, store)
        if not self._is_with(node_id):
            # One that is being let go is spoken to until the others have its last entries.
            standing.check_manager(node_id, store)
        self._check_dates(store.get(Node, node_id), node_id, certificate)

    def check_issuer(self, node_id: str, certificate: bytes) -> None:
        """For a connection that stands when the roots change: it was verified with those of its beginning."""
        trusted = roots.split(self._trusted())
        if len(trusted) == 1 and roots.issuer_key_id(certificate) != roots.key_id(trusted[0]):
            raise Denied(f"the certificate of node {node_id} is of a root that is trusted no more")

    def _check_dates(self, row: Node | None, node_id: str, certificate: bytes) -> None:
        begin, end = ca.validity(certificate)
        now = self._clock.now()
        if now < begin:
            raise Denied(f"the certificate of node {node_id} is not valid yet: compare the clocks")
        if now < end:
            return
        if row is None:
            raise Denied(f"the certificate of node {node_id} has expired, and the node is not known here")
        standing.check_newest(row, begin)


async def cut_those_who_may_not(store: Store, cut: Callable[[], None]) -> None:
    """Until cancelled: ``cut`` what is allowed no more, whenever roles or roots change."""
    watch = store.watch()
    cut()
    while True:
        try:
            events = await watch.next()
        except Overrun:
            watch = store.watch()
        else:
            if not any(_matters(event) for event in events):
                continue
        cut()


def _matters(event: Event) -> bool:
    """Verdicts and addresses change all the time, and mean nothing here."""
    old, new = event.old, event.new
    if isinstance(old, Node) and isinstance(new, Node):
        return (old.role, old.spec.role) != (new.role, new.spec.role)
    return event.kind in (Node, RemovedNode)
