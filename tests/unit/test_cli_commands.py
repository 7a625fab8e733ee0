"""Images, info, usage errors, help and completion against a daemon with canned answers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.rpc.v1 import control_pb2, node_pb2
from tests.unit.test_cli_fake import Cli, FakeDaemon, command_line, fake_daemon


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    yield from fake_daemon(tmp_path, monkeypatch)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(capsys)


def test_image_load_streams_the_file_in_pieces(
    daemon: FakeDaemon, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"x" * ((1 << 20) + 1))
    daemon.answers["LoadImages"] = node_pb2.LoadImagesResponse(refs=["busybox:latest"])
    assert cli("image", "load", "-i", str(archive)) == (0, "Loaded image: busybox:latest\n", "")
    (sent,) = daemon.asked("LoadImages")
    assert [len(request.data) for request in sent] == [1 << 20, 1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"tar")))
    assert cli("image", "load")[0] == 0
    assert daemon.asked("LoadImages")[1][0].data == b"tar"


def test_image_import_names_it_first(daemon: FakeDaemon, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(b"tar")
    daemon.answers["ImportImage"] = node_pb2.ImportImageResponse(id="sha256:ab")
    assert cli("image", "import", "-c", "CMD sh", str(tmp_path / "root.tar"), "mine:1")[1] == "sha256:ab\n"
    (first, second), *_ = daemon.asked("ImportImage")
    assert (first.ref, list(first.changes), second.data) == ("mine:1", ["CMD sh"], b"tar")


def test_image_rm_inspect_and_tag(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["RemoveImage"] = node_pb2.RemoveImageResponse(untagged=["a:1"], deleted=["sha256:ab"])
    daemon.answers["TagImage"] = node_pb2.TagImageResponse()
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": ["sha256:1"]}}
    daemon.answers["GetImage"] = node_pb2.GetImageResponse(
        image=node_pb2.Image(id="sha256:ab", refs=["a:1"], size=7), config_json=json.dumps(config).encode()
    )
    assert cli("image", "rm", "a:1")[1] == "Untagged: a:1\nDeleted: sha256:ab\n"
    assert cli("image", "tag", "a:1", "b:2") == (0, "", "")
    (shown,) = json.loads(cli("image", "inspect", "a:1")[1])
    assert (shown["RepoTags"], shown["Os"], shown["RootFS"]["Layers"]) == (["a:1"], "linux", ["sha256:1"])


def test_info_and_version(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["Info"] = node_pb2.InfoResponse(
        version="0.1.0", hostname="n1", swarm_state="inactive", warnings=["no cgroups"]
    )
    code, out, err = cli("info")
    assert (code, err) == (0, "WARNING: no cgroups\n")
    assert " Swarm: inactive\n" in out
    assert cli("info", "--format", "{{.Swarm.LocalNodeState}}")[1] == "inactive\n"
    assert "Server:\n Version:           0.1.0\n" in cli("version")[1]


def test_info_of_a_locked_manager_knows_nothing_else_of_its_swarm(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["Info"] = node_pb2.InfoResponse(hostname="n1", version="0.1.0", swarm_state="locked")
    out = cli("info")[1]
    assert out.splitlines()[-1] == " Swarm: locked"


def test_info_of_a_manager_shows_the_group_and_what_it_can_lose(daemon: FakeDaemon, cli: Cli) -> None:
    group = node_pb2.ManagerGroup(can_lose=0, epoch=3, term=2, applied=77, age=12.34)
    group.managers.add(node_id="x", hostname="n1", address="10.0.0.1:2377", status="Reachable")
    group.managers.add(node_id="y", hostname="n2", address="10.0.0.2:2377", status="Unreachable")
    daemon.answers["Info"] = node_pb2.InfoResponse(
        swarm_state="active",
        is_manager=True,
        group=group,
        managers=["10.0.0.1:2377", "10.0.0.2:2377", "10.0.0.3:2377"],
    )
    out = cli("info")[1]
    assert "  Managers: 2 (can lose 0)\n  Raft: epoch 3, term 2, 77 changes applied, as 12.3 s ago\n" in out
    assert "\n   10.0.0.1:2377 (Reachable)\n   10.0.0.2:2377 (Unreachable)\n   10.0.0.3:2377\n" in out
    assert cli("info", "--format", "{{.Swarm.Group.CanLose}} {{.Swarm.Group.Term}}")[1] == "0 2\n"
    group.age = 0.1
    daemon.answers["Info"] = node_pb2.InfoResponse(swarm_state="active", is_manager=True, group=group)
    assert "77 changes applied\n" in cli("info")[1]


def test_without_a_daemon_version_still_shows_the_client(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMCTL_HOST", "unix:///nowhere/x.sock")
    code, out, err = cli("version")
    assert code == 1
    assert out.startswith("Client:\n Version:")
    assert err == ("Cannot connect to the swarmd daemon at unix:///nowhere/x.sock. Is the daemon running?\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["service", "create", "--x", "i"], "unknown flag: --x\nSee 'swarmctl service create --help'.\n"),
        (["service", "ls", "-x"], "unknown shorthand flag: 'x' in -x\nSee 'swarmctl service ls --help'.\n"),
        (["service", "nope"], "unknown command: swarmctl service nope\nSee 'swarmctl service --help'.\n"),
        (
            ["service", "create", "--limit-cpu", "x", "i"],
            'invalid argument "x" for "--limit-cpu" flag: failed to parse x as a rational number\n'
            "See 'swarmctl service create --help'.\n",
        ),
        (
            ["service", "create", "-p", "1-2:1-3", "i"],
            'invalid argument "1-2:1-3" for "-p, --publish" flag: Invalid ranges specified for container and '
            "host Ports: 1-3 and 1-2 (they must be equally long, or the target one port)\n"
            "See 'swarmctl service create --help'.\n",
        ),
        (
            ["service", "create", "--detach=maybe", "i"],
            'invalid argument "maybe" for "-d, --detach" flag: write true or false\n'
            "See 'swarmctl service create --help'.\n",
        ),
        (
            ["service", "create"],
            '"swarmctl service create" requires at least 1 argument.\n'
            "See 'swarmctl service create --help'.\n\n"
            "Usage:  swarmctl service create [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nCreate a new service.\n",
        ),
        (
            ["image", "tag", "a"],
            "\"swarmctl image tag\" requires exactly 2 arguments.\nSee 'swarmctl image tag --help'.\n\n"
            "Usage:  swarmctl image tag [OPTIONS] SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]\n\n"
            "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE.\n",
        ),
        (
            ["service", "ls", "--format"],
            "flag needs an argument: --format\nSee 'swarmctl service ls --help'.\n",
        ),
    ],
)
def test_bad_usage_ends_with_125_and_docker_s_words(cli: Cli, arguments: list[str], text: str) -> None:
    assert cli(*arguments) == (125, "", text)


def test_ctrl_c_ends_with_130(daemon: FakeDaemon, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("swarmd.cli.rows.service_rows", interrupted)
    daemon.answers["ListServices"] = control_pb2.ListServicesResponse()
    assert cli("service", "ls")[0] == 130


def test_a_bare_group_shows_its_help(cli: Cli) -> None:
    code, out, _ = cli("service")
    assert code == 0
    assert "Manage swarm services." in out
    assert "rollback" in out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["service", "--help"], ["service", "create", "--help"], ["x"]]
)
def test_help_and_usage_errors_do_not_load_grpc(arguments: list[str]) -> None:
    code = (
        "import sys; from swarmd.cli.main import run\n"
        "try: run(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'grpc', 'google.protobuf', 'asyncio', 'msgspec', 'structlog'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "loaded" in done.stderr) == (0, False)


@pytest.mark.parametrize(
    "arguments", [["version"], ["ps"], ["service", "ls"], ["build", "-q", "."], ["image", "pull", "a/b"]]
)
def test_a_command_does_not_wait_for_libraries_of_daemons(arguments: list[str], tmp_path: Path) -> None:
    """Each of them takes longer to load than a short command runs.  Nobody answers: all the same."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    code = (
        "import sys; from swarmd.cli.main import run\n"
        "run(sys.argv[1:])\n"
        "heavy = {'grpc', 'asyncio', 'structlog', 'ssl', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    environ = {**os.environ, "SWARMCTL_HOST": f"unix://{tmp_path}/d.sock", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environ,
    )  # fmt: skip
    assert "Cannot connect to the swarmd daemon" in done.stderr
    assert (done.returncode, "loaded" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "_SWARMCTL_COMPLETE=bash_complete"), ("zsh", "#compdef swarmctl")]
)
def test_completion_scripts_are_click_s_own(cli: Cli, shell: str, sign: str) -> None:
    code, out, _ = cli("completion", shell)
    assert code == 0
    assert sign in out
