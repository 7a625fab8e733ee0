"""swarmctl network against a daemon with canned answers: requests sent, text printed, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from swarmd.rpc.v1 import containers_pb2, control_pb2, netdiag_pb2, networks_pb2, node_pb2, types_pb2
from tests.unit.test_cli_fake import Cli, FakeDaemon, Refusal, command_line, fake_daemon

MISSING = Refusal("network nosuch not found", "not_found", grpc.StatusCode.NOT_FOUND)
NET1 = "6obhdgnnuonhas8xgmbag9qwi"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    yield from fake_daemon(tmp_path, monkeypatch)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(capsys)


def network(name: str = "net1", identity: str = NET1, **spec: object) -> networks_pb2.NetworkView:
    it = types_pb2.Network(id=identity, name=name, driver="overlay", created_at=1795451479.5)
    it.spec.MergeFrom(types_pb2.NetworkSpec(name=name, **spec))
    it.subnets.add(subnet="10.0.5.0/24")
    return networks_pb2.NetworkView(network=it, services=1, tasks=2, taken=3, addresses=253)


def listed(daemon: FakeDaemon, *views: networks_pb2.NetworkView) -> None:
    daemon.answers["ListNetworks"] = networks_pb2.ListNetworksResponse(networks=views)


def test_create_says_everything_and_prints_the_id(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["CreateNetwork"] = networks_pb2.CreateNetworkResponse(id=NET1)
    flags = (
        "-d", "overlay", "--subnet", "10.0.5.0/24", "--gateway", "10.0.5.254", "--ip-range", "10.0.5.128/25",
        "--aux-address", "router=10.0.5.9", "--attachable", "--internal", "--ipv6", "--label", "a=b",
        "-o", "encrypted", "-o", "com.docker.network.driver.mtu=1400",
    )  # fmt: skip
    assert cli("network", "create", *flags, "net1") == (0, f"{NET1}\n", "")
    wanted = types_pb2.NetworkSpec(
        name="net1", driver="overlay", attachable=True, internal=True, encrypted=True, ipv6=True,
        labels={"a": "b"}, options={"com.docker.network.driver.mtu": "1400"},
    )  # fmt: skip
    wanted.subnets.add(
        subnet="10.0.5.0/24", gateway="10.0.5.254", ip_range="10.0.5.128/25", reserved={"router": "10.0.5.9"}
    )
    assert daemon.asked("CreateNetwork")[0].spec == wanted


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--ingress",), "--ingress cannot be given: the swarm makes its ingress network itself"),
        (
            ("--scope", "local"),
            "--scope cannot be given: every network that is made here is of the whole swarm",
        ),
        (("--config-only",), "--config-only cannot be given"),
        (("--ipam-opt", "a=b"), "--ipam-opt cannot be given"),
        (("--ipam-driver", "dhcp"), "unknown IPAM driver dhcp"),
        (("--ipv4=false",), "every network has an IPv4 prefix"),
        (("--gateway", "10.0.0.1"), "no matching subnet for gateway 10.0.0.1"),
        (("--opt", "=x"), "write key=value"),
    ],
)
def test_flags_that_would_do_nothing_are_refused_in_words(
    daemon: FakeDaemon, cli: Cli, flags: tuple[str, ...], complaint: str
) -> None:
    code, _, err = cli("network", "create", *flags, "net1")
    assert (code, daemon.requests) == (1, [])
    assert complaint in err


def test_ls_has_the_networks_of_every_node_among_the_swarm_s(daemon: FakeDaemon, cli: Cli) -> None:
    listed(daemon, network(), network("ingress", "0stiq4r01uj8wv0000000000a"))
    assert cli("network", "ls")[1].splitlines() == [
        "NETWORK ID     NAME      DRIVER    SCOPE",
        "bridge         bridge    bridge    local",
        "host           host      host      local",
        "0stiq4r01uj8   ingress   overlay   swarm",
        "6obhdgnnuonh   net1      overlay   swarm",
        "none           none      null      local",
    ]
    assert cli("network", "ls", "--no-trunc", "-q", "-f", "name=net")[1] == f"{NET1}\n"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (("driver=overlay",), "net1 net2"),
        (("scope=local",), "bridge host none"),
        (("type=custom", "name=2"), "net2"),
        (("label=a=b",), "net2"),
        (("label=a",), "net2"),
        (("id=6ob",), "net1"),
    ],
)
def test_ls_is_filtered_and_formatted(
    daemon: FakeDaemon, cli: Cli, filters: tuple[str, ...], names: str
) -> None:
    listed(daemon, network(), network("net2", "x" * 25, labels={"a": "b"}))
    flags = [word for text in filters for word in ("-f", text)]
    assert cli("network", "ls", *flags, "--format", "{{.Name}}")[1].split() == names.split()


def test_ls_refuses_filters_it_does_not_know(daemon: FakeDaemon, cli: Cli) -> None:
    listed(daemon)
    assert cli("network", "ls", "-f", "type=x")[2] == "invalid filter 'type=x': write builtin or custom\n"
    assert "known are driver" in cli("network", "ls", "-f", "colour=red")[2]


def test_inspect_is_docker_s_shape(daemon: FakeDaemon, cli: Cli) -> None:
    view = network(labels={"a": "b"}, attachable=True, encrypted=True)
    answer = networks_pb2.GetNetworkResponse(network=view)
    one = answer.services.add(id="s1", name="web", addresses=["10.0.5.2"], aliases=["www"])
    one.tasks.add(
        id="t1",
        name="web.1.t1",
        slot=1,
        hostname="n1",
        node_address="172.30.0.1",
        addresses=["10.0.5.3"],
        up=True,
    )
    answer.peers.add(node_id="id1", hostname="n1", address="172.30.0.1")
    daemon.answers["GetNetwork"] = answer
    (shown,) = json.loads(cli("network", "inspect", "-v", "net1")[1])
    assert (shown["Name"], shown["Id"], shown["Scope"], shown["Driver"]) == ("net1", NET1, "swarm", "overlay")
    assert shown["IPAM"]["Config"] == [{"Subnet": "10.0.5.0/24", "Gateway": "10.0.5.1"}]
    assert (shown["Labels"], shown["Options"], shown["Attachable"]) == ({"a": "b"}, {"encrypted": ""}, True)
    assert shown["Peers"] == [{"Name": "id1", "Hostname": "n1", "IP": "172.30.0.1"}]
    assert shown["Services"]["web"]["VIP"] == "10.0.5.2"
    (task,) = shown["Services"]["web"]["Tasks"]
    assert (task["Name"], task["EndpointIP"], task["Addresses"]) == ("web.1.t1", "10.0.5.3", ["10.0.5.3/24"])
    assert daemon.asked("GetNetwork")[0].verbose
    (shown,) = json.loads(cli("network", "inspect", "net1")[1])
    assert "Services" not in shown


def test_inspect_knows_what_every_node_has_and_says_what_is_missing(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetNetwork"] = MISSING
    code, out, err = cli("network", "inspect", "none", "nosuch")
    assert (code, err) == (1, "Error response from daemon: network nosuch not found\n")
    assert [one["Driver"] for one in json.loads(out)] == ["null"]


def test_rm_goes_on_after_a_failure(daemon: FakeDaemon, cli: Cli) -> None:
    def remove(request: networks_pb2.RemoveNetworkRequest) -> object:
        return MISSING if request.ref == "nosuch" else networks_pb2.RemoveNetworkResponse()

    daemon.answers["RemoveNetwork"] = remove
    code, out, err = cli("network", "rm", "nosuch", "bridge", "net1")
    assert (code, out) == (1, "net1\n")
    assert err.splitlines() == [
        "Error response from daemon: network nosuch not found",
        "Error response from daemon: bridge is a pre-defined network and cannot be removed",
    ]
    assert cli("network", "rm", "-f", "nosuch") == (0, "nosuch\n", "")


def test_prune_passes_its_filters_on(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["PruneNetworks"] = networks_pb2.PruneNetworksResponse(deleted=["net1"])
    flags = ("--filter", "label=a", "--filter", "label!=b=c", "--filter", "until=1795451479")
    assert cli("network", "prune", "-f", *flags) == (0, "Deleted Networks:\nnet1\n\n", "")
    assert daemon.asked("PruneNetworks") == [
        networks_pb2.PruneNetworksRequest(labels=["a"], without=["b=c"], until=1795451479)
    ]


def test_services_name_networks_and_send_ids(daemon: FakeDaemon, cli: Cli) -> None:
    def get(request: networks_pb2.GetNetworkRequest) -> object:
        found = networks_pb2.GetNetworkResponse(network=network())
        return found if request.ref in ("net1", NET1) else MISSING

    daemon.answers["GetNetwork"] = get
    daemon.answers["CreateService"] = control_pb2.CreateServiceResponse(id="s1")
    networks = ("--network", "name=net1,alias=db", "--network", "host")
    assert cli("service", "create", "-d", *networks, "nginx")[0] == 0
    spec = daemon.asked("CreateService")[0].spec
    assert [one.target for one in spec.template.networks] == [NET1, "host"]
    service = types_pb2.Service(id="s1", spec=spec)
    daemon.answers["GetService"] = control_pb2.GetServiceResponse(
        service=control_pb2.ServiceView(service=service)
    )
    daemon.answers["UpdateService"] = control_pb2.UpdateServiceResponse()
    assert cli("service", "update", "-d", "--network-rm", "net1", "s1")[0] == 0
    assert [one.target for one in daemon.asked("UpdateService")[0].spec.template.networks] == ["host"]
    code, _, err = cli("service", "create", "-d", "--network", "nosuch", "nginx")
    assert (code, err) == (1, "network nosuch not found: make it with `swarmctl network create nosuch`\n")
    assert cli("service", "update", "-d", "--network-rm", "nosuch", "s1")[2] == (
        "the service is not in network nosuch\n"
    )


def test_service_inspect_names_networks_and_their_prefixes(daemon: FakeDaemon, cli: Cli) -> None:
    service = types_pb2.Service(id="s1")
    service.spec.template.networks.add(target=NET1)
    service.vips.add(network_id=NET1, addresses=["10.0.5.2"])
    daemon.answers["GetService"] = control_pb2.GetServiceResponse(
        service=control_pb2.ServiceView(service=service)
    )
    listed(daemon, network())
    shown = cli("service", "inspect", "--format", "{{json .Endpoint.VirtualIPs}}", "s1")[1]
    assert json.loads(shown) == [{"NetworkID": NET1, "Addr": "10.0.5.2/24"}]
    assert "Networks: net1 \n" in cli("service", "inspect", "--pretty", "s1")[1]


def examined(*findings: netdiag_pb2.NetworkFinding) -> netdiag_pb2.ExamineNetworkResponse:
    answer = netdiag_pb2.ExamineNetworkResponse(findings=findings, tried=1, ways=2)
    report = netdiag_pb2.ExamineNodeResponse(
        snapshot=7, applied=True, audited=True, conntrack=5, conntrack_max=100, underlay_mtu=1500,
        overlay_mtu=1450,
    )  # fmt: skip
    report.ways.add(node_id="id2", gossip="alive", underlay=1500, overlay=1450)
    answer.nodes.add(id="id1", hostname="n1", address="172.30.0.1", state="ready", report=report)
    answer.nodes.add(id="id2", hostname="n2", address="172.30.0.2", state="down")
    return answer


def test_doctor_prints_a_table_and_sentences_and_fails_when_something_is_wrong(
    daemon: FakeDaemon, cli: Cli
) -> None:
    down = netdiag_pb2.NetworkFinding(
        severity="problem", kind="down", text="n2: the node is down", advice="start its daemon"
    )
    notice = netdiag_pb2.NetworkFinding(severity="notice", kind="limit", text="n1: no SCTP")
    daemon.answers["ExamineNetwork"] = examined(down, notice)
    code, out, err = cli("network", "doctor", "net1")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "NODE      ADDRESS      STATE     SNAPSHOT   RULES     MTU       OVERLAY   CONNTRACK   WAYS",
        "n1        172.30.0.1   Ready     7          equal     1500      1450      5/100       1/1",
        "n2        172.30.0.2   Down      -          -         -         -         -           -",
        "",
        "1 of 2 ways between two nodes were tried.",
        "",
        "Problems:",
        "  - n2: the node is down.",
        "    Start its daemon.",
        "",
        "To know:",
        "  - n1: no SCTP.",
    ]
    assert daemon.asked("ExamineNetwork")[0].network == "net1"


def test_doctor_is_well_when_there_are_only_notices(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["ExamineNetwork"] = examined(
        netdiag_pb2.NetworkFinding(severity="notice", kind="limit", text="n1: no SCTP")
    )
    code, out, _ = cli("network", "doctor")
    assert (code, out.splitlines()[-1]) == (0, "Nothing is wrong.")
    code, out, _ = cli("network", "doctor", "--json")
    found = json.loads(out)
    assert (code, found["Well"], found["Ways"]) == (0, True, {"Tried": 1, "All": 2})
    assert found["Nodes"][0]["Ways"] == [
        {"PeerID": "id2", "NodePort": "open", "Gossip": "alive", "Underlay": 1500, "Overlay": 1450}
    ]


@pytest.mark.parametrize(("verdict", "code"), [("arrives", 0), ("leaves", 0), ("unknown", 0), ("refused", 1)])
def test_trace_prints_its_steps_and_fails_when_the_packet_is_refused(
    daemon: FakeDaemon, cli: Cli, verdict: str, code: int
) -> None:
    answer = netdiag_pb2.TracePacketResponse(verdict=verdict, conclusion="web.1 it is")
    answer.steps.add(kind="source", text="api.1 runs on n1")
    answer.steps.add(kind="network", text="they are apart", refused=True)
    daemon.answers["TracePacket"] = answer
    found, out, _ = cli("network", "trace", "api.1", "web")
    assert found == code
    assert out.splitlines()[:3] == ["  source   api.1 runs on n1", "x network  they are apart", ""]
    assert out.splitlines()[3].endswith(": web.1 it is.")
    assert json.loads(cli("network", "trace", "--json", "api.1", "web")[1])["Verdict"] == verdict


# -- single containers -----------------------------------------------------------------------------


def test_connect_says_where_and_as_what(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["ConnectNetwork"] = containers_pb2.ContainerResponse(container_id="c1")
    flags = ("--alias", "db", "--alias", "sql", "--ip", "10.0.5.9", "--ip6", "fd00::9")
    assert cli("network", "connect", *flags, "net1", "box") == (0, "", "")
    (asked,) = daemon.asked("ConnectNetwork")
    assert (asked.ref, asked.network.target) == ("box", "net1")
    assert (list(asked.network.aliases), list(asked.network.addresses)) == (
        ["db", "sql"], ["10.0.5.9", "fd00::9"],
    )  # fmt: skip


def test_disconnect_asks_a_manager_only_when_it_is_to_and_the_node_does_not_have_it(
    daemon: FakeDaemon, cli: Cli
) -> None:
    missing = Refusal("No such container: box", "not_found", grpc.StatusCode.NOT_FOUND)
    daemon.answers["DisconnectNetwork"] = missing
    daemon.answers["ReleaseContainer"] = networks_pb2.ReleaseContainerResponse()
    code, _, err = cli("network", "disconnect", "net1", "box")
    assert (code, err) == (1, "Error response from daemon: No such container: box\n")
    assert cli("network", "disconnect", "-f", "net1", "box") == (0, "", "")
    (asked,) = daemon.asked("ReleaseContainer")
    assert (asked.network, asked.container) == ("net1", "box")
    daemon.answers["DisconnectNetwork"] = containers_pb2.ContainerResponse()
    assert cli("network", "disconnect", "-f", "net1", "box") == (0, "", "")
    assert len(daemon.asked("ReleaseContainer")) == 1


def test_inspect_shows_containers_with_their_nodes(daemon: FakeDaemon, cli: Cli) -> None:
    answer = networks_pb2.GetNetworkResponse(network=network(attachable=True))
    answer.containers.add(
        id="c1", name="box", hostname="n1", node_address="172.30.0.1", addresses=["10.0.5.3", "fd00::3"],
        aliases=["db"], up=False, state="down",
    )  # fmt: skip
    daemon.answers["GetNetwork"] = answer
    (shown,) = json.loads(cli("network", "inspect", "net1")[1])
    assert shown["Containers"] == {
        "c1": {
            "Name": "box",
            "EndpointID": "c1",
            "MacAddress": "",
            "IPv4Address": "10.0.5.3/24",
            "IPv6Address": "fd00::3",
            "Aliases": ["db"],
            "Up": False,
            "Node": {"Hostname": "n1", "State": "down", "IP": "172.30.0.1"},
        }
    }


@pytest.mark.parametrize(
    ("flags", "mode", "networks"),
    [
        ((), "", []),
        (("--network", "host"), "host", []),
        (("--network", "blue", "--network", "red"), "", [("blue", [], []), ("red", [], [])]),
        (
            ("--network", "name=blue,alias=a,ip=10.0.5.9,ip6=fd00::9", "--network-alias", "b"),
            "",
            [("blue", ["a", "b"], ["10.0.5.9", "fd00::9"])],
        ),
        (("--network", "blue", "--ip", "10.0.5.9"), "", [("blue", [], ["10.0.5.9"])]),
    ],
)
def test_run_sends_the_networks_of_a_container(
    daemon: FakeDaemon, cli: Cli, flags: tuple[str, ...], mode: str, networks: list[object]
) -> None:
    daemon.answers["GetImage"] = node_pb2.GetImageResponse()
    daemon.answers["CreateContainer"] = containers_pb2.CreateContainerResponse(id="c1")
    assert cli("create", *flags, "busybox")[0] == 0
    (asked,) = daemon.asked("CreateContainer")
    assert asked.network == mode
    assert [(one.target, list(one.aliases), list(one.addresses)) for one in asked.networks] == networks


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--network", "host", "--network", "blue"), "cannot attach both user-defined and non-user-defined"),
        (("--ip", "10.0.5.9"), "user specified IP address is supported on user defined networks only"),
        (("--network", "none", "--network-alias", "a"), "network-scoped alias is supported only for"),
        (("--network", "name=blue,vip=10.0.5.9"), "a single container has no vip"),
        (("--network", "name=blue,driver-opt=a=b"), "no driver-opt for a single container"),
    ],
)
def test_run_refuses_what_no_container_can_be(
    daemon: FakeDaemon, cli: Cli, flags: tuple[str, ...], complaint: str
) -> None:
    code, _, err = cli("run", *flags, "busybox")
    assert (code, complaint in err) == (125, True), err
    assert not daemon.asked("CreateContainer")
