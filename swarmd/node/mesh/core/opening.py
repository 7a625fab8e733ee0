"""Which published ports this node opens, and where: kept up service by service.

Puts the node's own addresses in the place of names of interfaces.  A port for an address that the node does
not have is left out: it is another node's.  Where two services want the same then, the lower id has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from msgspec.structs import replace

from swarmd.node.mesh.core.published import Addresses, PortKey, key_of, name_of
from swarmd.node.network.port import NetworkState, PublishedPort

_Claim = tuple[str, int]
"""A service, and which of its ports."""


class Opening:
    """``ports``: those that are open, with the backends whose nodes are alive, by key."""

    def __init__(self) -> None:
        self.ports: dict[PortKey, PublishedPort] = {}
        self._told: dict[str, tuple[PublishedPort, ...]] = {}
        self._news: set[str] = set()
        self._particular: set[str] = set()
        self._claims: dict[PortKey, dict[_Claim, PublishedPort]] = {}
        self._claimed: dict[str, set[PortKey]] = {}
        self._contested: set[PortKey] = set()
        self._alive: frozenset[str] = frozenset()
        self._addresses: Addresses = {}

    @property
    def is_particular(self) -> bool:
        """Whether a port is for one address or interface only."""
        return bool(self._particular)

    def tell(self, news: NetworkState) -> None:
        """What services publish, all of it or what is different."""
        told: dict[str, list[PublishedPort]] = {}
        for port in news.ports:
            told.setdefault(port.service_id, []).append(port)
        for service in told.keys() | (news.changed if news.since else self._told.keys()):
            ports = tuple(told.get(service, ()))
            if ports == self._told.get(service, ()):
                continue
            self._news.add(service)
            self._told[service] = ports
            (self._particular.add if any(one.host_ip for one in ports) else self._particular.discard)(service)
            if not ports:
                del self._told[service]

    def advance(self, alive: frozenset[str], addresses: Addresses) -> set[PortKey]:
        """Open what was told; answers the keys whose port is another now, is new or is gone.

        ``alive``: ids of the nodes that can be reached; ``addresses``: of each interface of this one.
        """
        services = self._news
        if alive != self._alive:
            services |= self._told.keys()
        if addresses != self._addresses:
            services |= self._particular
        self._news, self._alive, self._addresses = set(), alive, addresses
        touched = set[PortKey]().union(*(self._claim(service) for service in services))
        return {key for key in touched if self._decide(key)}

    def problems(self) -> tuple[str, ...]:
        """A sentence for each port that a service did not get."""
        return tuple(
            f"{name_of(key)} is asked for by service {port.service_name} and was given to "
            f"service {self.ports[key].service_name}"
            for key in sorted(self._contested)
            for _, port in sorted(self._claims[key].items())[1:]
        )

    def _claim(self, service: str) -> set[PortKey]:
        """Ask for the ports of one service; answers the keys it had or has."""
        before = self._claimed.pop(service, set())
        for key in before:
            claims = self._claims[key]
            for claim in [claim for claim in claims if claim[0] == service]:
                del claims[claim]
        after = set()
        for number, port in enumerate(self._told.get(service, ())):
            for one in self._placed(self._reachable(port)):
                after.add(key_of(one))
                self._claims.setdefault(key_of(one), {})[service, number] = one
        if after:
            self._claimed[service] = after
        return before | after

    def _decide(self, key: PortKey) -> bool:
        """Give the port to whom it is due; answers whether that is news."""
        claims, before = self._claims[key], self.ports.get(key)
        (self._contested.add if len(claims) > 1 else self._contested.discard)(key)
        if claims:
            self.ports[key] = claims[min(claims)]
        else:
            del self._claims[key]
            self.ports.pop(key, None)
        return self.ports.get(key) != before

    def _reachable(self, port: PublishedPort) -> PublishedPort:
        backends = tuple(one for one in port.backends if one.node_id in self._alive)
        return port if len(backends) == len(port.backends) else replace(port, backends=backends)

    def _placed(self, port: PublishedPort) -> Iterator[PublishedPort]:
        for host in self._hosts(port.host_ip):
            yield port if host == port.host_ip else replace(port, host_ip=host)

    def _hosts(self, wanted: str) -> tuple[str, ...]:
        if not wanted:
            return ("",)
        if wanted in self._addresses:
            return tuple(one for one in self._addresses[wanted] if not ip_address(one).is_link_local)
        try:
            address = ip_address(wanted)
        except ValueError:
            return ()
        local = {one for several in self._addresses.values() for one in several}
        return (str(address),) if str(address) in local or address.is_loopback else ()
