"""Published ports: where a node opens them, and what the kernel's sets hold for them."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from swarmd.node.mesh.core import choice
from swarmd.node.mesh.core.buckets import LARGE, SMALL
from swarmd.node.mesh.core.opening import Opening
from swarmd.node.mesh.core.published import PortKey, key_of
from swarmd.node.mesh.core.table import Changes, Table
from swarmd.node.network.ingress import Ingress
from swarmd.node.network.port import Backend, NetworkState, PublishedPort

HTTP = b"\x06\0\0\0\x00\x50\0\0"


def backend(number: int, place: int = 5, port: int = 8000, *, six: bool = False) -> Backend:
    address6 = f"fd73:7761:726d:{number}::{place}" if six else ""
    return Backend(f"t{number}.{place}", f"10.128.{number}.{place}", port, f"n{number}", address6)


def port(number: int, *backends: Backend, **more: object) -> PublishedPort:
    made = PublishedPort("s", "web", "tcp", number, backends)
    return replace(made, **more)


def served(*ports: PublishedPort, family: str = "ip") -> Table:
    """What an empty kernel would hold after these ports came."""
    return added(Ingress().changes(by_key(*ports)), family)


def by_key(*ports: PublishedPort) -> dict[PortKey, PublishedPort | None]:
    return {key_of(port): port for port in ports}


def added(changes: Changes, family: str = "ip") -> Table:
    found = changes[family]  # type: ignore[index]
    return {name: difference.add for name, difference in found.items() if difference}


def test_an_element_is_protocol_port_and_bucket_to_address_and_port() -> None:
    built = served(port(80, backend(7, port=8080)))
    assert len(built["ep"]) == SMALL
    assert built["ep"][HTTP + struct.pack("=I", 59)] == bytes([10, 128, 7, 5]) + b"\x1f\x90\0\0"
    assert built["published"] == built["counted"] == {HTTP: None}
    assert built.keys() == {"ep", "published", "counted"}


def test_a_port_without_backends_is_published_but_has_no_element() -> None:
    for family in ("ip", "ip6"):
        built = served(port(53, protocol="udp"), family=family)
        assert built["published"] == {b"\x11\0\0\0\x00\x35\0\0": None}
        assert "ep" not in built


def test_a_service_that_grows_moves_to_the_large_map_and_uses_every_backend() -> None:
    ingress = Ingress()
    ingress.changes(by_key(port(80, *(backend(1, n) for n in range(1, 21)))))
    changes = ingress.changes(by_key(port(80, *(backend(1, n) for n in range(1, 101)))))["ip"]
    assert (len(changes["ep"].remove), len(changes["ep_large"].add)) == (SMALL, LARGE)
    assert len(set(changes["ep_large"].add.values())) == 100
    assert not changes["published"]


def test_only_the_port_that_changed_is_written() -> None:
    ingress = Ingress()
    ports = [port(number, backend(1), backend(2)) for number in range(1, 100)]
    ingress.changes(by_key(*ports))
    assert added(ingress.changes(by_key(*ports))) == {}
    changes = ingress.changes(by_key(port(6, backend(1), backend(2), backend(3))))["ip"]
    assert len(changes["ep"].remove) == len(changes["ep"].add) == SMALL // 3
    gone = ingress.changes({key_of(ports[0]): None})["ip"]
    assert len(gone["ep"].remove) == SMALL
    assert list(gone["published"].remove) == [b"\x06\0\0\0\x00\x01\0\0"]


def test_backends_without_ipv6_leave_ipv6_to_the_proxy_unless_others_have_it() -> None:
    assert served(port(80, backend(1)), family="ip6") == {}
    mixed = served(port(80, backend(1), backend(2, six=True)), family="ip6")
    address = bytes.fromhex("fd737761726d0002 0000000000000005")
    assert set(mixed["ep"].values()) == {address + b"\x1f\x40\0\0"}


def test_what_a_port_asks_for_is_an_element_in_its_set() -> None:
    asking = port(80, backend(1, six=True), sticky=True, allow=("10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"))
    four, six = served(asking), served(asking, family="ip6")
    assert four["sticky"] == four["guarded"] == six["sticky"] == six["guarded"] == {HTTP: None}
    assert four["allowed"] == {HTTP + bytes([10, 0, 0, 0]) + HTTP + bytes([10, 255, 255, 255]): None}
    (allowed,) = six["allowed"]
    assert len(allowed) == 2 * (8 + 16)


def test_clients_of_the_other_family_are_kept_out_by_a_filter_that_does_not_name_them() -> None:
    six = served(port(80, backend(1, six=True), allow=("10.0.0.0/8",)), family="ip6")
    assert six["guarded"] == {HTTP: None}
    assert "allowed" not in six


def test_a_port_on_one_address_has_it_in_its_keys_and_is_no_matter_of_the_other_family() -> None:
    here = port(80, backend(1, six=True), host_ip="192.0.2.1")
    built = served(here)
    assert built["published_at"] == {bytes([192, 0, 2, 1]) + HTTP: None}
    assert len(built["ep_at"]) == SMALL
    assert served(here, family="ip6") == {}
    assert served(port(80, backend(1), host_ip="127.0.0.1")) == {}


def test_ports_with_a_proxy_header_are_left_to_the_proxy() -> None:
    for family in ("ip", "ip6"):
        assert served(port(80, backend(1, six=True), source="proxy-protocol"), family=family) == {}


def test_masked_containers_are_named_with_their_ports() -> None:
    built = served(port(80, backend(1), source="masquerade"), port(81, backend(2)))
    assert built["masked"] == {bytes([10, 128, 1, 5]) + b"\x06\0\0\0\x1f\x40\0\0": None}


def test_a_container_stays_masked_as_long_as_a_port_asks_for_it() -> None:
    ingress = Ingress()
    first, second = (port(number, backend(1), source="masquerade") for number in (80, 81))
    ingress.changes(by_key(first, second))
    assert not ingress.changes({key_of(first): None})["ip"]["masked"]
    assert len(ingress.changes({key_of(second): None})["ip"]["masked"].remove) == 1


HERE = {
    "lo": ("127.0.0.1", "::1"),
    "eth0": ("192.0.2.1", "fe80::1", "2001:db8::1"),
    "eth1": ("198.51.100.1",),
}


def opened(*ports: PublishedPort, alive: tuple[str, ...] = ()) -> Opening:
    made = Opening()
    made.tell(NetworkState(1, (), ports))
    assert made.advance(frozenset(alive), HERE) == made.ports.keys()
    return made


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("", [""]),
        ("eth0", ["192.0.2.1", "2001:db8::1"]),
        ("198.51.100.1", ["198.51.100.1"]),
        ("2001:DB8:0::1", ["2001:db8::1"]),
        ("127.0.0.5", ["127.0.0.5"]),
        ("203.0.113.1", []),
        ("eth7", []),
    ],
)
def test_a_port_is_opened_on_the_addresses_that_the_node_has(host: str, found: list[str]) -> None:
    made = opened(port(80, host_ip=host))
    assert {one.host_ip for one in made.ports.values()} == set(found)
    assert made.problems() == ()


def test_backends_on_dead_unknown_and_masked_nodes_are_left_out() -> None:
    made = opened(port(80, *(backend(n) for n in (1, 2, 3, 4))), alive=("n1", "n4", "n6"))
    (found,) = made.ports.values()
    assert [b.node_id for b in found.backends] == ["n1", "n4"]


def test_two_services_that_meet_on_one_address_are_told_apart() -> None:
    second = port(80, host_ip="192.0.2.1", service_id="t", service_name="shop")
    made = opened(port(80, host_ip="eth0"), second)
    assert len(made.ports) == 2
    assert made.problems() == (
        "port 80/tcp on 192.0.2.1 is asked for by service shop and was given to service web",
    )


def test_a_client_is_known_by_its_address_whatever_the_socket_calls_it() -> None:
    assert choice.address_of("::ffff:192.0.2.7") == ip_address("192.0.2.7")
    assert choice.address_of("fe80::1%eth0") == ip_address("fe80::1")
    allow = choice.prefixes(("192.0.2.0/24", "2001:db8::/32"))
    assert choice.may_connect(choice.address_of("::ffff:192.0.2.7"), allow)
    assert not choice.may_connect(ip_address("2001:db9::1"), allow)
    assert choice.may_connect(ip_address("2001:db9::1"), ())


def test_a_client_keeps_its_backend_when_another_one_goes() -> None:
    backends = tuple(backend(number) for number in range(1, 6))
    clients = [ip_address(f"192.0.2.{number}") for number in range(1, 200)]
    before = {client: choice.by_client(client, backends)[0] for client in clients}
    assert set(before.values()) == set(backends)
    after = {client: choice.by_client(client, backends[1:])[0] for client in clients}
    assert all(after[client] == old for client, old in before.items() if old != backends[0])


def test_the_proxy_header_says_who_called_whom() -> None:
    header = choice.proxy_header(("::ffff:192.0.2.7", 4711), ("::ffff:192.0.2.1", 80))
    assert header == (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
        + bytes([192, 0, 2, 7, 192, 0, 2, 1])
        + struct.pack("!HH", 4711, 80)
    )
    six = choice.proxy_header(("2001:db8::7", 1), ("2001:db8::1", 2))
    assert six[12:16] == b"\x21\x21\0\x24"
    assert len(six) == 16 + 36
