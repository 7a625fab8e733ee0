"""``swarmctl volume``: Docker's flags, tables and words."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from swarmd.rpc.v1 import node_pb2 as pb
from tests.unit.test_cli_fake import Cli, FakeDaemon, Refusal, command_line, fake_daemon

MISSING = Refusal("get gone: no such volume", "not_found", grpc.StatusCode.NOT_FOUND)
DATA = pb.Volume(
    name="data", driver="local", mountpoint="/v/data/_data", created_at=1.5, labels={"a": "b"}, users=["c1"],
    size=-1,
)  # fmt: skip
OTHER = pb.Volume(name="other", driver="local", mountpoint="/v/other/_data", size=4096)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    yield from fake_daemon(tmp_path, monkeypatch)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(capsys)


def test_create_prints_the_name(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["CreateVolume"] = pb.CreateVolumeResponse(volume=DATA)
    assert cli("volume", "create", "--label", "a=b", "data") == (0, "data\n", "")
    assert cli("volume", "create") == (0, "data\n", "")
    assert daemon.asked("CreateVolume") == [
        pb.CreateVolumeRequest(name="data", driver="local", labels={"a": "b"}),
        pb.CreateVolumeRequest(driver="local"),
    ]


def test_ls_shows_docker_s_table_and_filters(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["ListVolumes"] = pb.ListVolumesResponse(volumes=[OTHER, DATA])
    assert cli("volume", "ls")[1] == "DRIVER    VOLUME NAME\nlocal     data\nlocal     other\n"
    assert cli("volume", "ls", "-q", "-f", "dangling=true")[1] == "other\n"
    assert cli("volume", "ls", "-q", "--filter", "dangling=false")[1] == "data\n"
    assert cli("volume", "ls", "-q", "-f", "label=a=b")[1] == "data\n"
    assert cli("volume", "ls", "-q", "-f", "name=the")[1] == "other\n"
    assert cli("volume", "ls", "--format", "{{.Name}} {{.Labels}} {{.Size}}")[1].splitlines() == [
        "data a=b N/A", "other  4.1kB",
    ]  # fmt: skip
    assert "known are" in cli("volume", "ls", "-f", "color=red")[2]
    cli("volume", "ls", "--size")
    assert daemon.asked("ListVolumes")[-1].size


def test_inspect_is_docker_s_json(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetVolume"] = lambda request: pb.GetVolumeResponse(volume=DATA)
    assert json.loads(cli("volume", "inspect", "data")[1]) == [
        {
            "CreatedAt": "1970-01-01T00:00:01.5Z",
            "Driver": "local",
            "Labels": {"a": "b"},
            "Mountpoint": "/v/data/_data",
            "Name": "data",
            "Options": None,
            "Scope": "local",
        }
    ]
    daemon.answers["GetVolume"] = MISSING
    code, out, err = cli("volume", "inspect", "gone")
    assert (code, out.strip()) == (1, "[]")
    assert "get gone: no such volume" in err


def test_rm_goes_on_after_one_that_cannot_go_and_force_does_not_mind_those_that_are_not_there(
    daemon: FakeDaemon, cli: Cli
) -> None:
    busy = Refusal("remove data: volume is in use - [c1]", "conflict", grpc.StatusCode.ALREADY_EXISTS)
    daemon.answers["RemoveVolume"] = lambda request: {"data": busy, "gone": MISSING}.get(
        request.name, pb.RemoveVolumeResponse()
    )
    code, out, err = cli("volume", "rm", "data", "other")
    assert (code, out) == (1, "other\n")
    assert "remove data: volume is in use - [c1]" in err
    assert cli("volume", "rm", "gone")[0] == 1
    assert cli("volume", "rm", "-f", "gone")[:2] == (0, "gone\n")
    assert cli("volume", "rm", "-f", "data")[0] == 1


def test_prune_asks_first(daemon: FakeDaemon, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.answers["PruneVolumes"] = pb.PruneVolumesResponse(deleted=["x"], reclaimed=2_500_000)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, out, err = cli("volume", "prune")
    assert (code, daemon.asked("PruneVolumes")) == (1, [])
    assert "WARNING! This will remove anonymous local volumes not used by at least one container." in out
    assert "cancelled" in err
    assert cli("volume", "prune", "-f", "--all", "--filter", "label=a=b") == (
        0, "Deleted Volumes:\nx\n\nTotal reclaimed space: 2.5MB\n", "",
    )  # fmt: skip
    assert daemon.asked("PruneVolumes") == [pb.PruneVolumesRequest(all=True, labels=["a=b"])]
