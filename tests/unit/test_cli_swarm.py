"""swarmctl swarm and node against a daemon with canned answers."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmd.rpc.v1 import control_pb2, node_pb2, types_pb2
from tests.unit.test_cli_fake import NODE_ID, Cli, FakeDaemon, Refusal, command_line, fake_daemon, node

TOKEN = "SWMTKN-1-52pirtgx2lhrzj7jlgn2rrivmf191mbeyrhegsue3sljgpv9a3-162mquzfhzt2orvg3w3ellgyz"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    yield from fake_daemon(tmp_path, monkeypatch)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(capsys)


def test_swarm_init_tells_how_to_join(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["InitSwarm"] = node_pb2.InitSwarmResponse(
        node_id=NODE_ID, worker_token=TOKEN, address="192.168.77.11:2377"
    )
    code, out, _ = cli("swarm", "init", "--advertise-addr", "192.168.77.11", "--cert-expiry", "2h")
    assert (code, out) == (
        0,
        f"Swarm initialized: current node ({NODE_ID}) is now a manager.\n\n"
        "To add a worker to this swarm, run the following command:\n\n"
        f"    swarmctl swarm join --token {TOKEN} 192.168.77.11:2377\n\n"
        "To add a manager to this swarm, run 'swarmctl swarm join-token manager' "
        "and follow the instructions.\n\n",
    )
    (request,) = daemon.asked("InitSwarm")
    assert (request.advertise_addr, request.availability) == ("192.168.77.11", "active")
    assert (request.heartbeat, request.task_history, request.certificate_expiry) == (5.0, 5, 7200.0)


KEY = "SWMKEY-1-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
UNLOCK_TEXT = (
    "To unlock a swarm manager after it restarts, run the `swarmctl swarm unlock`\n"
    "command and provide the following key:\n\n"
    f"    {KEY}\n\n"
    "Please remember to store this key in a password manager, since without it you\n"
    "will not be able to restart the manager.\n\n"
)


def test_swarm_init_with_autolock_shows_the_key(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["InitSwarm"] = node_pb2.InitSwarmResponse(node_id=NODE_ID, unlock_key=KEY)
    code, out, _ = cli("swarm", "init", "--autolock", "--task-history-limit", "0")
    assert (code, out.endswith(UNLOCK_TEXT)) == (0, True)
    (request,) = daemon.asked("InitSwarm")
    assert (request.autolock, request.task_history, request.HasField("task_history")) == (True, 0, True)


def test_swarm_update_changes_what_is_given_of_what_there_is(daemon: FakeDaemon, cli: Cli) -> None:
    spec = types_pb2.ClusterSpec(task_history=7, heartbeat=5.0, certificate_expiry=7200.0)
    daemon.answers["GetCluster"] = control_pb2.GetClusterResponse(version=42, spec=spec)
    daemon.answers["UpdateCluster"] = control_pb2.UpdateClusterResponse()
    daemon.answers["GetUnlockKey"] = control_pb2.GetUnlockKeyResponse(unlock_key=KEY)
    assert cli("swarm", "update", "--dispatcher-heartbeat", "1m30s") == (0, "Swarm updated.\n", "")
    (request,) = daemon.asked("UpdateCluster")
    assert request.version == 42
    assert request.spec == types_pb2.ClusterSpec(task_history=7, heartbeat=90.0, certificate_expiry=7200.0)

    assert cli("swarm", "update", "--autolock") == (0, f"Swarm updated.\n{UNLOCK_TEXT}", "")
    assert daemon.asked("UpdateCluster")[-1].spec.autolock is True
    spec.autolock = True
    daemon.answers["GetCluster"] = control_pb2.GetClusterResponse(version=43, spec=spec)
    assert cli("swarm", "update", "--autolock=false") == (0, "Swarm updated.\n", "")
    assert daemon.asked("UpdateCluster")[-1].spec.autolock is False


def test_pools_of_networks_are_told_one_by_one_or_in_one_word(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["InitSwarm"] = node_pb2.InitSwarmResponse(node_id=NODE_ID)
    flags = ("--default-addr-pool", "10.20.0.0/16,10.30.0.0/16", "--default-addr-pool", "172.16.0.0/12")
    code, _, _ = cli("swarm", "init", *flags, "--default-addr-pool-mask-length", "26")
    (request,) = daemon.asked("InitSwarm")
    pools = ["10.20.0.0/16", "10.30.0.0/16", "172.16.0.0/12"]
    assert (code, list(request.address_pools), request.subnet_size) == (0, pools, 26)
    spec = types_pb2.ClusterSpec(address_pools=["10.1.0.0/16"], subnet_size=25)
    daemon.answers["GetCluster"] = control_pb2.GetClusterResponse(version=42, spec=spec)
    daemon.answers["UpdateCluster"] = control_pb2.UpdateClusterResponse()
    assert cli("swarm", "update", "--default-addr-pool", "10.2.0.0/16")[0] == 0
    assert cli("swarm", "update", "--autolock=false")[0] == 0
    first, second = (list(one.spec.address_pools) for one in daemon.asked("UpdateCluster"))
    assert (first, second) == (["10.2.0.0/16"], ["10.1.0.0/16"])


def test_swarm_update_without_a_flag_shows_its_help(daemon: FakeDaemon, cli: Cli) -> None:
    code, out, _ = cli("swarm", "update")
    assert (code, "--task-history-limit" in out, daemon.requests) == (0, True, [])


def test_swarm_unlock_reads_the_key_from_standard_input(
    daemon: FakeDaemon, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["UnlockSwarm"] = node_pb2.UnlockSwarmResponse()
    for state, said in (
        ("inactive", "Error: This node is not part of a swarm\n"),
        ("active", "Error: swarm is not locked\n"),
    ):
        daemon.answers["Info"] = node_pb2.InfoResponse(swarm_state=state)
        assert cli("swarm", "unlock") == (1, "", said)
    daemon.answers["Info"] = node_pb2.InfoResponse(swarm_state="locked")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    assert cli("swarm", "unlock") == (0, "", "")
    assert [request.unlock_key for request in daemon.asked("UnlockSwarm")] == [KEY]
    assert cli("swarm", "unlock", KEY)[0] == 125, "an argument would be seen by everybody"


def test_swarm_unlock_key_is_shown_and_rotated(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetUnlockKey"] = control_pb2.GetUnlockKeyResponse(unlock_key=KEY)
    daemon.answers["RotateUnlockKey"] = control_pb2.RotateUnlockKeyResponse(unlock_key=KEY)
    assert cli("swarm", "unlock-key") == (0, UNLOCK_TEXT, "")
    assert cli("swarm", "unlock-key", "-q") == (0, f"{KEY}\n", "")
    rotated = cli("swarm", "unlock-key", "--rotate")
    assert rotated == (0, f"Successfully rotated manager unlock key.\n\n{UNLOCK_TEXT}", "")
    daemon.answers["GetUnlockKey"] = control_pb2.GetUnlockKeyResponse()
    assert cli("swarm", "unlock-key") == (1, "", "no unlock key is set\n")


def test_swarm_join_names_the_role_and_fills_in_the_port(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["JoinSwarm"] = node_pb2.JoinSwarmResponse(role="worker")
    assert cli("swarm", "join", "--token", TOKEN, "192.168.77.11") == (
        0,
        "This node joined a swarm as a worker.\n",
        "",
    )
    assert list(daemon.asked("JoinSwarm")[0].remote_addrs) == ["192.168.77.11:2377"]


def test_swarm_join_token_and_ca(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetCluster"] = control_pb2.GetClusterResponse(worker_token=TOKEN, root_ca=b"PEM\n")
    daemon.answers["GetNode"] = control_pb2.GetNodeResponse(node=node())
    daemon.answers["RotateToken"] = control_pb2.RotateTokenResponse(token="new")
    _, out, _ = cli("swarm", "join-token", "worker")
    assert out == (
        "To add a worker to this swarm, run the following command:\n\n"
        f"    swarmctl swarm join --token {TOKEN} 192.168.77.11:2377\n\n"
    )
    assert cli("swarm", "join-token", "-q", "worker")[1] == f"{TOKEN}\n"
    assert cli("swarm", "join-token", "--rotate", "manager")[1].startswith(
        "Successfully rotated manager join token.\n\nTo add a manager"
    )
    root = control_pb2.Root(certificate_pem=b"PEM\n")
    daemon.answers["GetAuthority"] = control_pb2.GetAuthorityResponse(root=root)
    assert cli("swarm", "ca")[1] == "PEM\n"


def test_swarm_leave_shows_a_refusal_as_the_daemon_says_it(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["LeaveSwarm"] = Refusal("This node is not part of a swarm", "not_manager")
    assert cli("swarm", "leave") == (1, "", "Error response from daemon: This node is not part of a swarm\n")
    daemon.answers["LeaveSwarm"] = node_pb2.LeaveSwarmResponse()
    assert cli("swarm", "leave", "--force") == (0, "Node left the swarm.\n", "")
    assert daemon.asked("LeaveSwarm")[-1].force


def test_node_inspect_knows_self_and_fails_for_what_is_missing(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetNode"] = control_pb2.GetNodeResponse(node=node())
    assert json.loads(cli("node", "inspect", "self")[1])[0]["ManagerStatus"]["Leader"] is True
    assert daemon.asked("GetNode")[0].ref == NODE_ID
    assert cli("node", "inspect", "self", "--format", "{{.Description.Hostname}}")[1] == "n1\n"
    daemon.answers["GetNode"] = Refusal("node nosuch not found", "not_found", grpc.StatusCode.NOT_FOUND)
    assert cli("node", "inspect", "nosuch") == (
        1,
        "[]\n",
        "Error response from daemon: node nosuch not found\n",
    )


def test_what_is_wrong_with_the_managers_is_said_beside_the_table(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["ListNodes"] = control_pb2.ListNodesResponse(nodes=[node("n1")], warnings=["one is lost"])
    code, out, err = cli("node", "ls", "-q")
    assert (code, out, err) == (0, f"{NODE_ID}\n", "WARNING: one is lost\n")


def test_only_the_last_of_several_promotions_is_warned_of(daemon: FakeDaemon, cli: Cli) -> None:
    def answer(request: control_pb2.UpdateNodeRequest) -> control_pb2.UpdateNodeResponse:
        warnings = ["2 managers"] if request.ref == "n2" else []
        return control_pb2.UpdateNodeResponse(id=request.ref, changed=True, warnings=warnings)

    daemon.answers["UpdateNode"] = answer
    assert cli("node", "promote", "n2", "n3")[2] == ""
    assert cli("node", "promote", "n2")[2] == "WARNING: 2 managers\n"
    assert cli("node", "update", "--role", "manager", "n2")[2] == "WARNING: 2 managers\n"


def test_a_joining_manager_is_told_what_its_number_means(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["JoinSwarm"] = node_pb2.JoinSwarmResponse(
        node_id="x", role="manager", warnings=["2 managers"]
    )
    code, out, err = cli("swarm", "join", "--token", "t", "10.0.0.1")
    assert (code, err) == (0, "WARNING: 2 managers\n")
    assert "joined a swarm as a manager" in out


def test_node_promote_and_demote(daemon: FakeDaemon, cli: Cli) -> None:
    def answer(request: control_pb2.UpdateNodeRequest) -> Any:
        if request.ref == "n3":
            return Refusal("node n3 not found", "not_found", grpc.StatusCode.NOT_FOUND)
        return control_pb2.UpdateNodeResponse(id="sf0k", changed=request.role == "manager")

    daemon.answers["UpdateNode"] = answer
    assert cli("node", "promote", "n2", "n3") == (
        1,
        "Node n2 promoted to a manager in the swarm.\n",
        "Error response from daemon: node n3 not found\n",
    )
    assert cli("node", "demote", "n2")[:2] == (0, "Node sf0k is already a worker.\n")


def test_node_update_and_rm_send_only_what_was_given(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["UpdateNode"] = control_pb2.UpdateNodeResponse(id="x", changed=True)
    daemon.answers["RemoveNode"] = control_pb2.RemoveNodeResponse(id="x")
    assert cli("node", "update", "--label-add", "a=b", "--label-rm", "c", "n2")[:2] == (0, "n2\n")
    (request,) = daemon.asked("UpdateNode")
    assert not request.HasField("role")
    assert not request.HasField("availability")
    assert (dict(request.label_add), list(request.label_rm)) == ({"a": "b"}, ["c"])
    assert cli("node", "rm", "-f", "n2", "n3")[:2] == (0, "n2\nn3\n")


def a_token(identity: str = "tok1", **fields: Any) -> control_pb2.TokenView:
    usual: dict[str, Any] = {"role": "worker", "availability": "active", "state": "valid", "created_at": 1e9}
    return control_pb2.TokenView(id=identity, **(usual | fields))


def test_swarm_token_create_sends_what_was_asked_and_shows_how_to_join(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["CreateToken"] = control_pb2.CreateTokenResponse(token=TOKEN, view=a_token())
    daemon.answers["GetNode"] = control_pb2.GetNodeResponse(node=node())
    words = ("--role", "worker", "--label", "zone=a", "-l", "gpu=", "--expires", "24h", "--uses", "3")
    assert cli("swarm", "token", "create", *words, "--availability", "drain") == (
        0,
        "Created join token tok1. It is not shown again.\n\n"
        "To add a worker to this swarm, run the following command:\n\n"
        f"    swarmctl swarm join --token {TOKEN} 192.168.77.11:2377\n\n",
        "",
    )
    (request,) = daemon.asked("CreateToken")
    assert (request.role, dict(request.labels), request.availability) == (
        "worker", {"zone": "a", "gpu": ""}, "drain",
    )  # fmt: skip
    assert (request.lifetime, request.max_uses) == (86400.0, 3)
    assert cli("swarm", "token", "create", "-q") == (0, f"{TOKEN}\n", "")
    assert (daemon.asked("CreateToken")[1].lifetime, daemon.asked("CreateToken")[1].max_uses) == (0, 0)


@pytest.mark.parametrize("flag", ["--uses=0", "--expires=0s"])
def test_a_token_that_nobody_could_use_is_not_asked_for(daemon: FakeDaemon, cli: Cli, flag: str) -> None:
    code, _, error = cli("swarm", "token", "create", flag)
    assert code == 1
    assert "never valid" in error
    assert daemon.asked("CreateToken") == []


def test_swarm_token_ls_shows_filters_and_formats(daemon: FakeDaemon, cli: Cli) -> None:
    later = time.time() + 3 * 86400 + 60
    daemon.answers["ListTokens"] = control_pb2.ListTokensResponse(
        tokens=[
            a_token(max_uses=3, uses=1, labels={"zone": "a", "arch": "x"}, expires_at=later),
            a_token("tok2", role="manager", state="expired", expires_at=5.0, description="old"),
        ]
    )
    assert cli("swarm", "token", "ls")[1] == (
        "ID        ROLE      LABELS          USES LEFT   EXPIRES     DESCRIPTION\n"
        "tok1      worker    arch=x,zone=a   2 of 3      in 3 days   \n"
        "tok2      manager                   unlimited   expired     old\n"
    )
    assert cli("swarm", "token", "ls", "-q", "--filter", "role=manager")[1] == "tok2\n"
    assert cli("swarm", "token", "list", "-q", "--filter", "label=zone=a")[1] == "tok1\n"
    assert cli("swarm", "token", "ls", "-q", "--filter", "state=expired")[1] == "tok2\n"
    assert cli("swarm", "token", "ls", "--format", "{{.ID}} {{.MaxUses}} {{.ExpiresAt}}")[1].splitlines()[
        1
    ] == ("tok2 unlimited 1970-01-01T00:00:05Z")


def test_swarm_token_inspect_and_rm(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetToken"] = control_pb2.GetTokenResponse(token=a_token(max_uses=3, uses=1))
    (shown,) = json.loads(cli("swarm", "token", "inspect", "tok1")[1])
    assert (shown["ID"], shown["Uses"], shown["MaxUses"], shown["State"]) == ("tok1", 1, 3, "valid")
    assert "ExpiresAt" not in shown
    missing = Refusal("join token tok2 not found", "not_found", grpc.StatusCode.NOT_FOUND)
    daemon.answers["RemoveToken"] = lambda request: (
        missing if request.ref == "tok2" else control_pb2.RemoveTokenResponse(id="tok1")
    )
    assert cli("swarm", "token", "rm", "tok1", "tok2") == (
        1, "tok1\n", "Error response from daemon: join token tok2 not found\n",
    )  # fmt: skip


def test_node_inspect_names_the_token_a_node_joined_with(daemon: FakeDaemon, cli: Cli) -> None:
    view = node()
    daemon.answers["GetNode"] = lambda _: control_pb2.GetNodeResponse(node=view)
    assert "JoinToken" not in json.loads(cli("node", "inspect", "n1")[1])[0]
    view.node.join_token = "tok1"
    assert cli("node", "inspect", "n1", "--format", "{{.JoinToken}}")[1] == "tok1\n"


def test_swarm_audit_prints_the_lines_as_they_are(daemon: FakeDaemon, cli: Cli) -> None:
    lines = [node_pb2.ReadAuditResponse(line=line) for line in (b'{"a":1}', b'{"b":2}')]
    daemon.answers["ReadAudit"] = lambda _: iter(lines)
    assert cli("swarm", "audit") == (0, '{"a":1}\n{"b":2}\n', "")
    assert cli("swarm", "audit", "--tail", "5", "--follow", "--since", "2026-01-02T03:04:05Z")[0] == 0
    usual, given = daemon.asked("ReadAudit")
    assert (usual.tail, usual.follow, usual.since) == (-1, False, 0.0)
    assert (given.tail, given.follow, given.since) == (5, True, 1767323045.0)
    code, _, error = cli("swarm", "audit", "--tail", "few")
    assert (code, "write --tail 20 or --tail all" in error) == (1, True)
