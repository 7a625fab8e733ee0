"""``swarmctl pull``, ``push``, ``login``: Docker's lines and bars, and where log-ins are kept."""

from __future__ import annotations

import io
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmd.cli import logins, transfer
from swarmd.cli.logins import Login
from swarmd.rpc.v1 import control_pb2, node_pb2
from swarmd.rpc.v1 import registry_pb2 as pb
from tests.unit.test_cli_fake import Cli, FakeDaemon, Refusal, command_line, fake_daemon

HOST = "registry.example.com"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    yield from fake_daemon(tmp_path, monkeypatch)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(capsys)


def said(*lines: tuple[Any, ...]) -> Any:
    return lambda request: iter([pb.TransferProgress(**_fields(*line)) for line in lines])


def _fields(item: str, state: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    return {"item": item, "state": state, "current": current, "total": total}


def test_a_pull_looks_as_dockers_where_there_is_no_terminal(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["Pull"] = said(
        ("latest", "Pulling from library/nginx"),
        ("aaaaaaaaaaaa", "Pulling fs layer"),
        ("aaaaaaaaaaaa", "Downloading", 5, 10),
        ("aaaaaaaaaaaa", "Pull complete"),
        ("", "Digest: sha256:1"),
        ("", "Status: Downloaded newer image for nginx:latest"),
    )
    code, out, _ = cli("pull", "nginx")
    assert code == 0
    assert out.splitlines() == [
        "Using default tag: latest",
        "latest: Pulling from library/nginx",
        "aaaaaaaaaaaa: Pulling fs layer",
        "aaaaaaaaaaaa: Pull complete",
        "Digest: sha256:1",
        "Status: Downloaded newer image for nginx:latest",
        "docker.io/library/nginx:latest",
    ]


def test_a_quiet_pull_says_only_the_name(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["Pull"] = said(("1", "Pulling from a"))
    assert (
        cli("image", "pull", "-q", "--platform", "linux/arm64", "nginx:1")[1] == "docker.io/library/nginx:1\n"
    )
    assert daemon.asked("Pull")[0].platform == "linux/arm64"


def test_a_failed_transfer_fails_the_command(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["Push"] = Refusal("denied: no", "denied", grpc.StatusCode.PERMISSION_DENIED)
    code, _, err = cli("push", f"{HOST}/app:1")
    assert (code, err) == (1, "Error response from daemon: denied: no\n")


def test_bars_are_drawn_in_place_on_a_terminal() -> None:
    message = pb.TransferProgress(item="a", state="Downloading", current=5_000_000, total=10_000_000)
    assert transfer.bar(message, 80) == "     5MB/10MB"
    assert transfer.bar(message, 120).startswith("[" + "=" * 25 + ">" + " " * 25 + "]")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    transfer.show([message, pb.TransferProgress(item="a", state="Pull complete")], out)
    assert "5MB/10MB" in out.getvalue()
    assert out.getvalue().count("\n") == 1, "the second line stands where the first one stood"


def test_run_pulls_what_is_not_here_and_never_when_it_must_not(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetImage"] = Refusal("No such image: app:1", "not_found", grpc.StatusCode.NOT_FOUND)
    daemon.answers["Pull"] = Refusal("manifest for app:1 not found", "not_found", grpc.StatusCode.NOT_FOUND)
    code, _, err = cli("run", "app:1")
    assert code == 125
    assert err.splitlines() == [
        "Unable to find image 'app:1' locally",
        "Error response from daemon: manifest for app:1 not found",
    ]
    assert cli("run", "--pull", "never", "app:1")[0] == 125
    assert len(daemon.asked("Pull")) == 1
    assert "invalid pull option" in cli("run", "--pull", "often", "app:1")[2]
    daemon.answers["GetImage"] = node_pb2.GetImageResponse()
    cli("run", "--pull", "always", "app:1")
    assert len(daemon.asked("Pull")) == 2


# -- log-ins ---------------------------------------------------------------------------------------


def test_a_login_is_checked_kept_as_docker_keeps_it_and_sent_along(
    daemon: FakeDaemon, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["CheckLogin"] = pb.CheckLoginResponse()
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
    code, out, _ = cli("login", "-u", "anna", "--password-stdin", f"https://{HOST}/v2/")
    assert (code, out) == (0, "Login Succeeded\n")
    path = logins.settings_file()
    assert json.loads(path.read_text()) == {"auths": {HOST: {"auth": "YW5uYTpzZWNyZXQ="}}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    daemon.answers["Pull"] = said()
    cli("pull", f"{HOST}/app:1")
    cli("pull", "nginx:1")
    sent = [list(request.logins) for request in daemon.asked("Pull")]
    assert sent == [[pb.RegistryLogin(host=HOST, username="anna", password="secret")], []]
    assert cli("logout", HOST)[1] == f"Removing login credentials for {HOST}\n"
    assert cli("logout", HOST)[1] == f"Not logged in to {HOST}\n"


def test_a_login_that_is_refused_is_not_kept(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["CheckLogin"] = Refusal("unauthorized", "denied", grpc.StatusCode.PERMISSION_DENIED)
    assert cli("login", "-u", "anna", "-p", "wrong", HOST)[0] == 1
    assert not logins.settings_file().exists()


def test_a_token_is_kept_instead_of_the_password(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["CheckLogin"] = pb.CheckLoginResponse(identity_token="lasting")
    cli("login", "-u", "anna", "-p", "secret")
    assert logins.find("docker.io") == Login("anna", "", "lasting")
    assert "https://index.docker.io/v1/" in json.loads(logins.settings_file().read_text())["auths"]
    assert "c2VjcmV0" not in logins.settings_file().read_text()


def test_a_login_of_the_swarm_is_kept_there_and_not_here(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["CheckLogin"] = pb.CheckLoginResponse()
    daemon.answers["SaveRegistryLogin"] = control_pb2.SaveRegistryLoginResponse()
    assert cli("login", "--swarm", "-u", "anna", "-p", "secret", HOST)[0] == 0
    saved = daemon.asked("SaveRegistryLogin")[0]
    assert (saved.host, saved.login.username, saved.login.password) == (HOST, "anna", "secret")
    assert not logins.settings_file().exists()


def test_the_swarms_logins_are_listed_without_a_secret(daemon: FakeDaemon, cli: Cli) -> None:
    view = control_pb2.RegistryLoginView(host=HOST, username="anna", updated_at=1.0)
    daemon.answers["ListRegistryLogins"] = control_pb2.ListRegistryLoginsResponse(logins=[view])
    out = cli("registry", "credential", "ls")[1].splitlines()
    assert out[0].split() == ["HOST", "USERNAME", "SAVED"]
    assert out[1].split()[:2] == [HOST, "anna"]
    daemon.answers["RemoveRegistryLogin"] = control_pb2.RemoveRegistryLoginResponse()
    assert cli("registry", "credential", "rm", HOST)[1] == f"{HOST}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--password-stdin",), "Must provide --username with --password-stdin"),
        (("-u", "a", "-p", "b", "--password-stdin"), "mutually exclusive"),
        (("-u", "a"), "Cannot perform an interactive login from a non TTY device"),
    ],
)
def test_logins_that_cannot_be_are_refused_in_dockers_words(
    daemon: FakeDaemon, cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, err = cli("login", *arguments, HOST)
    assert code == 1
    assert said in err


def test_dockers_own_logins_and_helpers_are_used(
    daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "bin").mkdir()
    helper = tmp_path / "bin" / "docker-credential-safe"
    helper.write_text(
        '#!/bin/sh\nread host\necho "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"of $host\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    settings = {
        "auths": {f"https://{HOST}/v1/": {"auth": "YW5uYTpzZWNyZXQ="}, "broken": {"auth": "%"}},
        "credHelpers": {"helped": "safe", "lost": "nowhere", "bad": "../x"},
    }
    (tmp_path / "docker" / "config.json").write_text(json.dumps(settings))
    assert logins.find(HOST) == Login("anna", "secret")
    assert logins.find("helped") == Login(identity_token="of helped")
    assert [logins.find(host) for host in ("lost", "bad", "broken", "none")] == [None] * 4


def test_a_service_gives_the_users_login_to_the_swarm_when_it_is_told_to(
    daemon: FakeDaemon, cli: Cli
) -> None:
    logins.save(HOST, Login("anna", "secret"))
    daemon.answers["SaveRegistryLogin"] = control_pb2.SaveRegistryLoginResponse()
    daemon.answers["CreateService"] = control_pb2.CreateServiceResponse(id="s1")
    cli("service", "create", "-d", "--with-registry-auth", f"{HOST}/app:1")
    cli("service", "create", "-d", f"{HOST}/app:1")
    assert [request.host for request in daemon.asked("SaveRegistryLogin")] == [HOST]
