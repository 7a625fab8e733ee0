"""swarmctl swarm ca: the root, the way to another one, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.cli.rotation import done, lines
from swarmd.daemon.requests import root_of
from swarmd.model.errors import Invalid
from swarmd.rpc.v1 import control_pb2, node_pb2
from tests.unit.test_cli_fake import Cli, FakeDaemon, command_line, fake_daemon, node
from tests.unit.test_roots import KEY, NOW, certificate, pem_of

OLD = control_pb2.Root(certificate_pem=b"OLD\n", digest="old", subject="CN=swarm-ca", valid_until=1e9)
NEW = control_pb2.Root(certificate_pem=b"NEW\n", digest="new", subject="CN=ours", valid_until=2e9)
UNDER_WAY = control_pb2.GetAuthorityResponse(
    root=OLD,
    next=NEW,
    phase="issue",
    nodes=3,
    trusting=2,
    certified=1,
    awaited=[
        control_pb2.AwaitedNode(id="n2", hostname="two", state="ready", reason="it has no certificate yet"),
        control_pb2.AwaitedNode(id="n3", hostname="three", state="down", reason="it is down: start it"),
    ],
)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    yield from fake_daemon(tmp_path, monkeypatch)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(capsys)


def test_both_roots_are_shown_while_both_are_trusted(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetAuthority"] = UNDER_WAY
    code, out, err = cli("swarm", "ca")
    assert (code, out) == (0, "OLD\nNEW\n")
    assert "swarm ca --status" in err


def test_the_status_names_roots_numbers_and_whom_it_waits_for(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetAuthority"] = UNDER_WAY
    _, out, _ = cli("swarm", "ca", "--status")
    assert out.splitlines() == [
        "Root CA:",
        " Subject: CN=swarm-ca",
        " Digest: old",
        " Expires: 2001-09-09T01:46:40Z",
        "New root CA:",
        " Subject: CN=ours",
        " Digest: new",
        " Expires: 2033-05-18T03:33:20Z",
        "Rotation: nodes get certificates of it",
        "Trusted CA certificates: 2/3 nodes",
        "Rotated CA certificates: 1/3 nodes",
        "Waiting for:",
        " n2 two (ready): it has no certificate yet",
        " n3 three (down): it is down: start it",
    ]
    daemon.answers["GetAuthority"] = control_pb2.GetAuthorityResponse(root=OLD)
    assert cli("swarm", "ca", "--status")[1].endswith("Rotation: none\n")


def test_a_rotation_is_followed_to_its_end_and_the_new_tokens_are_told(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["RotateAuthority"] = control_pb2.RotateAuthorityResponse(digest="new")
    daemon.answers["GetAuthority"] = control_pb2.GetAuthorityResponse(root=NEW)
    daemon.answers["GetCluster"] = control_pb2.GetClusterResponse(
        root_ca=b"NEW\n", worker_token="W-TOKEN", manager_token="M-TOKEN"
    )
    daemon.answers["GetNode"] = control_pb2.GetNodeResponse(node=node())
    code, out, _ = cli("swarm", "ca", "--rotate", "--cert-expiry", "2h")
    assert code == 0
    assert out.startswith(
        "desired root digest: new\nrotated CA certificates: every node has gone over\nNEW\n"
    )
    assert "swarmctl swarm join --token W-TOKEN 192.168.77.11:2377" in out
    assert "swarmctl swarm join --token M-TOKEN 192.168.77.11:2377" in out
    (request,) = daemon.asked("RotateAuthority")
    assert (request.ca_cert, request.ca_key, request.certificate_expiry) == (b"", b"", 7200.0)
    assert cli("swarm", "ca", "--rotate", "--quiet")[1] == "NEW\n"
    assert cli("swarm", "ca", "--rotate", "--detach")[1] == ""


def test_files_are_read_here_and_sent_along(daemon: FakeDaemon, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(b"CERTIFICATE")
    (tmp_path / "root.key").write_bytes(b"KEY")
    daemon.answers["RotateAuthority"] = control_pb2.RotateAuthorityResponse(digest="new")
    files = ("--ca-cert", str(tmp_path / "root.pem"), "--ca-key", str(tmp_path / "root.key"))
    assert cli("swarm", "ca", "--rotate", "-d", *files)[0] == 0
    (request,) = daemon.asked("RotateAuthority")
    assert (request.ca_cert, request.ca_key) == (b"CERTIFICATE", b"KEY")
    daemon.answers["InitSwarm"] = node_pb2.InitSwarmResponse(node_id="n", worker_token="t", address="a")
    assert cli("swarm", "init", *files)[0] == 0
    (begun,) = daemon.asked("InitSwarm")
    assert (begun.ca_cert, begun.ca_key) == (b"CERTIFICATE", b"KEY")


def test_a_file_that_cannot_be_read_is_named_and_nothing_is_asked(
    daemon: FakeDaemon, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    for name, sentence in (("absent", "No such file or directory"), ("empty", "holds no certificate")):
        code, _, err = cli("swarm", "ca", "--rotate", "--ca-cert", str(tmp_path / name))
        assert code == 1
        assert f"{tmp_path / name}" in err
        assert sentence in err
    assert daemon.asked("RotateAuthority") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--ca-cert", "x"), "`--ca-cert` flag requires the `--rotate` flag"),
        (("--cert-expiry", "2h"), "`--cert-expiry` flag requires the `--rotate` flag"),
        (("--detach",), "`--detach` flag requires the `--rotate` flag"),
        (
            ("--rotate", "--external-ca", "protocol=cfssl,url=https://x"),
            "external-ca: certificates are signed by",
        ),
    ],
)
def test_flags_that_make_no_sense_are_refused(
    daemon: FakeDaemon, cli: Cli, words: tuple[str, ...], sentence: str
) -> None:
    code, _, err = cli("swarm", "ca", *words)
    assert code == 125
    assert sentence in err


def test_the_lines_count_nodes_and_name_those_that_are_down() -> None:
    shown = {line.key: line.text for line in lines(UNDER_WAY, "new")}
    assert shown == {
        "desired root digest": "new",
        "trusted CA certificates": "2/3 nodes",
        "rotated CA certificates": "1/3 nodes",
        "waiting for": "three (it is down: start it)",
    }
    assert done(UNDER_WAY, "new") is None


def test_a_rotation_that_another_one_replaced_is_over_and_not_done() -> None:
    assert done(UNDER_WAY, "mine") is False
    assert done(control_pb2.GetAuthorityResponse(root=NEW), "mine") is False
    assert done(control_pb2.GetAuthorityResponse(root=NEW), "new") is True


def test_a_swarm_begins_with_the_root_it_is_given_or_with_its_own() -> None:
    given, key = certificate(KEY), pem_of(KEY)
    assert root_of(node_pb2.InitSwarmRequest(ca_cert=given, ca_key=key), NOW) == (given, key)
    own, _ = root_of(node_pb2.InitSwarmRequest(), NOW)
    assert own.startswith(b"-----BEGIN CERTIFICATE")
    for half in (node_pb2.InitSwarmRequest(ca_cert=given), node_pb2.InitSwarmRequest(ca_key=key)):
        with pytest.raises(Invalid, match="go together"):
            root_of(half, NOW)
