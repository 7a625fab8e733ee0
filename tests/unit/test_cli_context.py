"""Which daemon a command talks to, and how contexts are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.cli import context
from swarmd.cli.errors import CliError
from swarmd.cli.main import run


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWARMCTL_CONFIG", str(tmp_path))
    monkeypatch.delenv("SWARMCTL_HOST", raising=False)
    monkeypatch.delenv("SWARMCTL_CONTEXT", raising=False)
    return tmp_path


def test_without_anything_the_local_daemon_is_meant() -> None:
    assert context.resolve_host(None, None, {}) == "unix:///run/swarmd/swarmd.sock"


def test_context_flag_beats_host_flag_beats_host_beats_context_beats_current() -> None:
    for name in ("flag", "environment", "current"):
        context.save_context(name, f"unix:///{name}")
    context.use_context("current")
    environ = {"SWARMCTL_HOST": "unix:///host", "SWARMCTL_CONTEXT": "environment"}
    assert context.resolve_host("flag", "unix:///h", environ) == "unix:///flag"
    assert context.resolve_host(None, "unix:///h", environ) == "unix:///h"
    assert context.resolve_host(None, None, environ) == "unix:///host"
    assert context.resolve_host(None, None, {"SWARMCTL_CONTEXT": "environment"}) == "unix:///environment"
    assert context.resolve_host(None, None, {}) == "unix:///current"


def test_saving_again_overwrites_and_leaves_no_temporary_files(config: Path) -> None:
    context.save_context("n1", "unix:///a")
    context.save_context("n1", "unix:///b", "second")
    assert context.get_context("n1") == ("n1", "unix:///b", "second")
    assert [path.name for path in config.rglob("*") if path.is_file()] == ["meta.json"]


def test_removing_the_current_context_falls_back_to_default() -> None:
    context.save_context("n1", "unix:///a")
    context.use_context("n1")
    context.remove_context("n1")
    assert context.current_context() == "default"
    with pytest.raises(CliError, match='context "n1" does not exist'):
        context.remove_context("n1")


@pytest.mark.parametrize("name", ["default", "x", "-bad", "a b", "../etc"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(CliError):
        context.save_context(name, "unix:///a")


@pytest.mark.parametrize("host", ["tcp://1.2.3.4:2375", "/run/x.sock", "unix:///", "unix://x"])
def test_addresses_other_than_unix_paths_are_refused(host: str) -> None:
    with pytest.raises(CliError, match="invalid host"):
        context.save_context("n1", host)


def test_a_damaged_file_is_named(config: Path) -> None:
    (config / "config.json").write_text("{")
    with pytest.raises(CliError, match=r"config\.json"):
        context.current_context()


def test_create_use_ls_show_and_rm(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["context", "create", "n1", "--host", "unix:///tmp/n1.sock", "--description", "first"]) == 0
    assert run(["context", "create", "n2", "--docker", "host=unix:///tmp/n2.sock"]) == 0
    assert run(["context", "use", "n1"]) == 0
    capsys.readouterr()
    run(["context", "ls"])
    assert capsys.readouterr().out.splitlines() == [
        "NAME      DESCRIPTION                                 ENDPOINT                         ERROR",
        "default   Current SWARMCTL_HOST based configuration   unix:///run/swarmd/swarmd.sock   ",
        "n1 *      first                                       unix:///tmp/n1.sock              ",
        "n2                                                    unix:///tmp/n2.sock              ",
    ]
    run(["context", "show"])
    assert capsys.readouterr().out == "n1\n"
    assert run(["context", "rm", "n1"]) == 1
    assert 'context "n1" is in use, set -f flag to force remove' in capsys.readouterr().err
    assert run(["context", "rm", "-f", "n1", "n2"]) == 0
    assert capsys.readouterr().out == "n1\nn2\n"


def test_an_unknown_context_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--context", "nope", "node", "ls"]) == 1
    assert 'context "nope" does not exist' in capsys.readouterr().err
