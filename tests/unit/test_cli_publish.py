"""``--publish`` and ``--network`` of services: what is written, what becomes of it, how it is shown again."""

from __future__ import annotations

from typing import Any

import click
import pytest

from swarmd.cli import pretty, states, views
from swarmd.cli.commands.service_create import create, new_spec
from swarmd.cli.commands.service_update import change, update
from swarmd.cli.network_text import Attachment, Subnet, parse_network, parse_options, parse_subnets
from swarmd.cli.port_text import Port, parse_ports
from swarmd.cli.service_flags import apply_create
from swarmd.rpc.v1 import control_pb2, types_pb2


def given(command: click.Command, *arguments: str) -> dict[str, Any]:
    return command.make_context(command.name, list(arguments)).params


def created(*arguments: str) -> types_pb2.ServiceSpec:
    params = given(create, *arguments, "nginx:1.12")
    spec = new_spec("web", params["mode"], params["image"], params["command"])
    apply_create(spec, params)
    return spec


def updated(spec: types_pb2.ServiceSpec, *arguments: str) -> types_pb2.ServiceSpec:
    change(spec, given(update, *arguments, "web"))
    return spec


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [Port(80)]),
        ("8080:80", [Port(80, 8080)]),
        (":80", [Port(80)]),
        ("53:53/udp", [Port(53, 53, "udp")]),
        ("9:9/SCTP", [Port(9, 9, "sctp")]),
        ("8000-8002:80-82", [Port(80, 8000), Port(81, 8001), Port(82, 8002)]),
        ("80-81", [Port(80), Port(81)]),
        ("8000-8010:80", [Port(80, 8000, published_end=8010)]),
        ("127.0.0.1:8080:80", [Port(80, 8080, host_ip="127.0.0.1")]),
        ("127.0.0.1::80", [Port(80, host_ip="127.0.0.1")]),
        ("eth0:8080:80", [Port(80, 8080, host_ip="eth0")]),
        ("[FD00:0::1]:8080:80", [Port(80, 8080, host_ip="fd00::1")]),
        ("0.0.0.0:8080:80", [Port(80, 8080)]),
        (
            "80:8080,host=App.example.com,path=/api",
            [Port(8080, 80, host="app.example.com", path="/api")],
        ),
        ("80,sticky", [Port(80, sticky=True)]),
        ("published=8080,target=80,mode=host", [Port(80, 8080, "tcp", "host")]),
        ("target=80,protocol=udp", [Port(80, 0, "udp")]),
        ("target=80-81,published=8080-8081", [Port(80, 8080), Port(81, 8081)]),
        (
            "published=443,target=8443,host=*.example.com,tls=cert,sticky=true",
            [Port(8443, 443, host="*.example.com", tls="cert", sticky=True)],
        ),
        (
            "published=22,target=22,allow=10.0.0.0/8;fd00::/8,allow=192.0.2.7",
            [Port(22, 22, allow=("10.0.0.0/8", "fd00::/8", "192.0.2.7/32"))],
        ),
    ],
)
def test_ports_are_read_in_both_spellings(text: str, ports: list[Port]) -> None:
    assert list(parse_ports(text)) == ports


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("80-82:80-83", "Invalid ranges specified"),
        ("82-80:80", "ends before it begins"),
        ("x", "invalid target port 'x'"),
        ("0", "from 1 to 65535"),
        ("80-70000", "invalid target port '70000'"),
        ("80/icmp", "write tcp, udp or sctp"),
        ("::1:80:80", "in brackets"),
        (":80:80", "is empty"),
        ("1.2.3.4/8:80:80", "invalid"),
        ("published=80", "missing mandatory field"),
        ("target=80,mode=x", "invalid publish mode value"),
        ("target=80,bogus=1", "invalid field key 'bogus'"),
        ("target=80,host", "must be a key=value pair"),
        ("target=80,host=a,host=b", "host is given twice"),
        ("target=80,allow=everybody", "write a prefix such as"),
        ("target=80,path=api", "must begin with /"),
        ("target=80,ip=1.2.3.4.5.6.7.8.9", "write an address or the name of an interface"),
        ("80:80,target=90", "both say which port"),
    ],
)
def test_ports_that_make_no_sense_are_explained(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_ports(text)


def test_publish_rm_goes_by_target_port() -> None:
    spec = created("-p", "8080:80", "-p", "443:443", "-p", "53:53/udp")
    updated(spec, "--publish-rm", "80", "--publish-add", "81:81", "--publish-rm", "53")
    assert [(port.published, port.target, port.protocol) for port in spec.ports] == [
        (53, 53, "udp"),
        (81, 81, "tcp"),
        (443, 443, "tcp"),
    ]


def test_publish_rm_of_a_route_leaves_the_others() -> None:
    spec = created("-p", "80:8080,host=a.example.com", "-p", "80:8080,host=b.example.com")
    updated(spec, "--publish-rm", "8080,host=a.example.com")
    assert [port.host for port in spec.ports] == ["b.example.com"]


def test_publishing_the_same_again_changes_its_words_only() -> None:
    spec = created("-p", "80:80", "-p", "8000-8001:90-91")
    updated(spec, "--publish-add", "80:80,allow=10.0.0.0/8")
    assert [(port.published, list(port.allow)) for port in spec.ports] == [
        (80, ["10.0.0.0/8"]),
        (8000, []),
        (8001, []),
    ]


EVERYTHING = (
    "--publish", "127.0.0.1:8000-8010:80/tcp,allow=10.0.0.0/8,sticky",
    "--publish", "443:8443,host=app.example.com,path=/api,tls=cert",
    "--endpoint-mode", "dnsrr", "--ingress-source", "masquerade",
    "--drain-delay", "5s", "--drain-timeout", "1m",
    "--network", "name=net1,alias=db,alias=sql,vip=10.0.5.2,ip=10.0.5.9,ip=10.0.5.10,driver-opt=a=b",
)  # fmt: skip


def test_an_update_of_something_else_keeps_every_word_of_ports_and_networks() -> None:
    spec = created(*EVERYTHING)
    before = spec.SerializeToString(deterministic=True)
    updated(spec, "--publish-add", "99:99", "--network-add", "net2")
    updated(spec, "--publish-rm", "99", "--network-rm", "net2")
    assert spec.SerializeToString(deterministic=True) == before


def test_every_word_of_ports_and_networks_is_shown() -> None:
    spec = created(*EVERYTHING)
    shown = views.service_spec(spec)
    assert shown["EndpointSpec"]["Mode"] == "dnsrr"
    assert shown["EndpointSpec"]["IngressSource"] == "masquerade"
    assert shown["EndpointSpec"]["Ports"] == [
        {
            "Protocol": "tcp", "TargetPort": 8443, "PublishedPort": 443, "PublishMode": "ingress",
            "Host": "app.example.com", "Path": "/api", "TLS": "cert",
        },
        {
            "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8000, "PublishMode": "ingress",
            "PublishedEnd": 8010, "HostIP": "127.0.0.1", "Allow": ["10.0.0.0/8"], "Sticky": True,
        },
    ]  # fmt: skip
    template = shown["TaskTemplate"]
    assert (template["DrainDelay"], template["DrainTimeout"]) == (5_000_000_000, 60_000_000_000)
    assert template["Networks"] == [
        {
            "Target": "net1", "Aliases": ["db", "sql"], "DriverOpts": {"a": "b"},
            "VirtualIP": "10.0.5.2", "Addresses": ["10.0.5.9", "10.0.5.10"],
        }
    ]  # fmt: skip


def test_virtual_addresses_are_shown_with_the_length_of_their_prefix() -> None:
    it = types_pb2.Service(id="s1")
    it.vips.add(network_id="net1id", addresses=["10.0.5.2", "fd00:5::2"])
    view = control_pb2.ServiceView(service=it)
    shown = views.service(view, {"net1id": ["10.0.5.0/24", "fd00:5::/64"]})
    assert shown["Endpoint"]["VirtualIPs"] == [
        {"NetworkID": "net1id", "Addr": "10.0.5.2/24"},
        {"NetworkID": "net1id", "Addr": "fd00:5::2/64"},
    ]
    assert views.service(view)["Endpoint"]["VirtualIPs"][0]["Addr"] == "10.0.5.2"


def test_pretty_names_networks_and_what_ports_have_beyond_docker() -> None:
    it = types_pb2.Service(id="s1", spec=created(*EVERYTHING))
    it.vips.add(network_id="net1", addresses=["10.0.5.2"])
    lines = pretty.service(control_pb2.ServiceView(service=it), 0.0, {"net1": "backend"})
    text = "\n".join(lines)
    assert "Networks: backend \nEndpoint Mode:\tdnsrr\n Ingress source:\tmasquerade\n" in text
    assert "Virtual IPs:\n backend:\t10.0.5.2\nDraining:\n Delay:\t\t5s\n Timeout:\t1m0s\nPorts:\n" in text
    assert "  Host = app.example.com\n  Path = /api\n  TLS = cert\n" in text
    assert "  PublishedEnd = 8010\n  HostIP = 127.0.0.1\n  Allow = 10.0.0.0/8\n  Sticky = true" in text


def test_the_ports_column_says_where_a_port_is_open() -> None:
    ports = [
        types_pb2.PortSpec(protocol="tcp", mode="ingress", **words)
        for words in (
            {"published": 80, "target": 8080, "host": "a.example.com", "path": "/api"},
            {"published": 80, "target": 8080, "host": "b.example.com"},
            {"published": 90, "target": 90, "host_ip": "fd00::1"},
            {"published": 91, "target": 91},
        )
    ]
    assert states.service_ports_cell(ports) == (
        "*:91->91/tcp, [fd00::1]:90->90/tcp, a.example.com:80/api->8080/tcp, b.example.com:80->8080/tcp"
    )


def test_networks_are_read_in_both_spellings() -> None:
    assert parse_network("net1") == Attachment("net1")
    assert parse_network("name=net1,alias=a,alias=b,ip=10.0.5.9;10.0.5.10,vip=10.0.5.2") == Attachment(
        "net1", ("a", "b"), "10.0.5.2", ("10.0.5.9", "10.0.5.10")
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("alias=a", 'missing mandatory field "name"'),
        ("name=a,name=b", "name is given twice"),
        ("name=a,colour=b", "invalid field key colour"),
        ("name=a,ip=x", "write an address such as"),
        ("name=a,driver-opt=x", "write name=value"),
    ],
)
def test_networks_that_make_no_sense_are_explained(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_network(text)


def test_a_network_that_is_removed_must_be_there() -> None:
    with pytest.raises(ValueError, match="the service is not in network net9"):
        updated(created("--network", "net1"), "--network-rm", "net9")


def test_a_network_added_again_is_changed_in_its_place() -> None:
    spec = updated(created("--network", "a", "--network", "b"), "--network-add", "name=a,alias=x")
    assert [(one.target, list(one.aliases)) for one in spec.template.networks] == [("a", ["x"]), ("b", [])]


def test_what_belongs_to_a_subnet_is_found_by_its_prefix() -> None:
    assert parse_subnets(
        ["10.5.0.0/16", "fd00:5::/64"], ["fd00:5::1", "10.5.0.1"], ["10.5.9.0/24"], ["router=10.5.0.9"]
    ) == [
        Subnet("10.5.0.0/16", "10.5.0.1", "10.5.9.0/24", (("router", "10.5.0.9"),)),
        Subnet("fd00:5::/64", "fd00:5::1"),
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((["10.5.0.0/16", "10.5.1.0/24"], [], [], []), "overlapping"),
        (([], ["10.5.0.1"], [], []), "no matching subnet for gateway 10.5.0.1"),
        ((["10.5.0.0/16"], [], ["10.6.0.0/24"], []), "no matching subnet for range 10.6.0.0/24"),
        ((["10.5.0.0/16"], ["10.5.0.1", "10.5.0.2"], [], []), "cannot configure multiple gateways"),
        ((["10.5.0.0/16"], [], [], ["10.5.0.1"]), "invalid aux-address"),
        ((["ten"], [], [], []), "write a prefix such as"),
    ],
)
def test_subnets_that_make_no_sense_are_explained(arguments: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_subnets(*arguments)


def test_encryption_is_an_option_of_the_driver_in_docker_s_words() -> None:
    assert parse_options(["encrypted", "com.docker.network.driver.mtu=1400"]) == (
        {"com.docker.network.driver.mtu": "1400"},
        True,
    )
    assert parse_options(["encrypted=false"]) == ({}, False)
