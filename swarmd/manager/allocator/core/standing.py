"""What the allocator keeps in mind between its turns: where it got to, and what services ask for by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from swarmd.model import subnets
from swarmd.model.network import attachments
from swarmd.model.objects import AddressAllocation, Service


class Standing:
    """Follows the rows; made anew from them at the start of a term."""

    def __init__(self, rows: Iterable[AddressAllocation] = (), services: Iterable[Service] = ()) -> None:
        self.newest: dict[tuple[str, int], int] = {}
        self._asked: dict[str, frozenset[tuple[str, str]]] = {}
        self._times: dict[str, Counter[str]] = {}
        for row in sorted(rows, key=lambda row: row.version):
            self.was_given(row)
        for service in services:
            self.asks(service.id, service)

    @property
    def asked(self) -> Mapping[str, Collection[str]]:
        """Network → addresses that services name, for themselves or for one of their slots."""
        return self._times

    def was_given(self, row: AddressAllocation) -> None:
        place = (row.network_id, subnets.version_of(row.address))
        self.newest[place] = subnets.number(row.address)

    def asks(self, service_id: str, service: Service | None) -> bool:
        """What a service names now; None: it is gone.  Answers whether it names less than it did."""
        named: frozenset[tuple[str, str]] = frozenset()
        if service is not None:
            named = frozenset(
                (one.target, address)
                for one in attachments(service.spec.template.networks)
                for address in (one.vip, *one.addresses)
                if address
            )
        before = self._asked.pop(service_id, frozenset())
        if named:
            self._asked[service_id] = named
        for network_id, address in before - named:
            times = self._times[network_id]
            times[address] -= 1
            if not times[address]:
                del times[address]
        for network_id, address in named - before:
            self._times.setdefault(network_id, Counter())[address] += 1
        return bool(before - named)
