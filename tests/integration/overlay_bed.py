"""The test bed with networks of the swarm: containers in them, services with virtual addresses."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from swarmd.node.network.port import Endpoint, NetworkState, NetworkView, ServiceView
from tests.integration.network_bed import Bed, Container, Node, inside

NO_IPV6 = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
BLUE = NetworkView(id="blue", name="blue", subnets=("10.20.0.0/24", "fd20::/64"))
RED = NetworkView(id="red", name="red", subnets=("10.21.0.0/24", "fd21::/64"))


class Overlay(Bed):
    """Nodes are told of the networks that containers of theirs are in, as the managers tell them."""

    def __init__(self, count: int, *networks: NetworkView, **more: Any) -> None:
        self.networks = {network.id: network for network in networks}
        self.services: list[ServiceView] = []
        self.places: dict[Container, tuple[str, dict[str, int]]] = {}
        self.draining: set[Container] = set()
        super().__init__(count, **more)

    def join(
        self,
        number: int,
        name: str,
        networks: Mapping[str, int],
        *,
        service: str = "",
        without_ipv6: bool = False,
    ) -> Container:
        """A container on node ``number`` with the address of this place in each network."""
        made = Container(self.nodes[number - 1], name)
        self.containers.append(made)
        if without_ipv6:
            inside(made.namespace, lambda: Path(NO_IPV6).write_text("1"))
        self.places[made] = (service or name, dict(networks))
        self.push()
        made.attach(networks=self._wanted(networks))
        return made

    def move(self, container: Container, networks: Mapping[str, int]) -> None:
        """From now on the container is in exactly these networks."""
        self.places[container] = (self.places[container][0], dict(networks))
        self.push()
        container.attach(networks=self._wanted(networks))

    def _wanted(self, networks: Mapping[str, int]) -> list[tuple[str, tuple[str, ...]]]:
        return [(network, self.addresses(network, place)) for network, place in networks.items()]

    def serve(self, service: str, network: str, place: int) -> tuple[str, str]:
        """The service has this virtual address of each family in the network."""
        addresses = self.addresses(network, place)
        self.services.append(ServiceView(id=service, name=service, network_id=network, addresses=addresses))
        self.push()
        return addresses[0], addresses[-1]

    def leave(self, container: Container) -> None:
        """Its task is to stop: nothing new is to be sent to it."""
        self.draining.add(container)
        self.push()

    def end(self, container: Container) -> None:
        """Its task is gone."""
        del self.places[container]
        container.kill()
        self.containers.remove(container)
        container.node.call("detach", task_id=container.name)
        self.push()

    def addresses(self, network: str, place: int) -> tuple[str, ...]:
        return tuple(
            subnet.partition("/")[0] + str(place)
            if ":" in subnet
            else subnet.partition("/")[0][:-1] + str(place)
            for subnet in self.networks[network].subnets
        )

    def address(self, container: Container, network: str, family: int = 4) -> str:
        found = self.addresses(network, self.places[container][1][network])
        return next(one for one in found if (":" in one) == (family == 6))

    def push(self) -> None:
        whole = self.state()
        for node in self.nodes:
            if node.process.poll() is None:
                node.call("apply", state=msgspec.to_builtins(self._told(whole, node)))

    def _told(self, whole: NetworkState, node: Node) -> NetworkState:
        here = {one for made, (_, joined) in self.places.items() if made.node is node for one in joined}
        endpoints = (
            Endpoint(
                task_id=made.name, name=made.name, service_id=service, slot=1, node_id=made.node.view.id,
                network_id=network, addresses=self.addresses(network, place), up=made not in self.draining,
            )
            for made, (service, joined) in self.places.items()
            for network, place in joined.items()
            if network in here
        )  # fmt: skip
        return msgspec.structs.replace(
            whole,
            networks=tuple(network for network in self.networks.values() if network.id in here),
            services=tuple(service for service in self.services if service.network_id in here),
            endpoints=tuple(endpoints),
        )


@contextlib.contextmanager
def overlay(count: int, *networks: NetworkView, **more: Any) -> Iterator[Overlay]:
    made = Overlay(count, *networks, **more)
    try:
        yield made
    finally:
        made.close()


def refusal(
    container: Container, address: str, port: int = 8000, *, source: str = "", seconds: float = 30.0
) -> int:
    """The errno of a connection that must fail; 0 if it does not."""

    def attempt() -> int:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as sock:
            sock.settimeout(seconds)
            if source:
                sock.bind((source, 0))
            return sock.connect_ex((address, port))

    return inside(container.namespace, attempt)


def udp(container: Container, address: str, *, source: int = 0, port: int = 8000) -> str:
    """The answer of the container's echo server: its name and the client's address."""

    def request() -> str:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind(("", source))
            sock.settimeout(30)
            sock.sendto(b"?", (address, port))
            return sock.recv(100).decode()

    return inside(container.namespace, request)


def ping(container: Container, address: str) -> str:
    """Whose answer comes to one of some ICMP echo requests; a device that has just come up may lose one."""
    six = ":" in address
    kind, answers = (socket.IPPROTO_ICMPV6, 129) if six else (socket.IPPROTO_ICMP, 0)
    # The kernel fills in IPv6's checksum, whose sum includes the addresses.
    request = struct.pack("!BBHHH", 128 if six else 8, 0, 0 if six else 0xF7FD, 1, 1)

    def echo() -> str:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, kind) as sock:
            sock.settimeout(0.5)
            for _ in range(60):
                sock.sendto(request, (address, 0))
                with contextlib.suppress(TimeoutError):
                    while True:
                        answer, peer = sock.recvfrom(1500)
                        if (answer if six else answer[20:])[0] == answers:
                            return str(peer[0])
        return "nobody"

    return inside(container.namespace, echo)
