"""How ``swarmctl`` starts: without what its libraries import and a command does not need."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from swarmd.cli.start import Instead, Later

OF_A_BUILD = """
import sys
from swarmd.cli import start
sys.meta_path.insert(0, start.Later(start._RARELY_NEEDED))
import swarmd.cli.main, swarmd.cli.commands.build, swarmd.cli.build_source, swarmd.cli.build_context
import swarmd.cli.build_show, swarmd.cli.build_registries, swarmd.cli.client, swarmd.rpc.v1.build_pb2
print(*(name for name, module in sys.modules.items() if not isinstance(module, start._Late)))
"""
DEAR = {
    "ast",
    "asyncio",
    "difflib",
    "email",
    "grpc",
    "hashlib",
    "http",
    "inspect",
    "ipaddress",
    "json",
    "locale",
    "logging",
    "msgspec",
    "platform",
    "selectors",
    "ssl",
    "subprocess",
    "tempfile",
    "traceback",
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that says how often it was loaded."""
    (tmp_path / "slow_one.py").write_text(
        "import builtins\nbuiltins.loads = getattr(builtins, 'loads', 0) + 1\nanswer = 42\n"
        "def half(): return answer // 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("builtins.loads", 0, raising=False)
    return "slow_one"


def later(name: str, monkeypatch: pytest.MonkeyPatch, instead: Instead) -> ModuleType:
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Later({name: instead}), *sys.meta_path])
    found = import_module(name)
    monkeypatch.setitem(sys.modules, name, found)
    return found


def loads() -> int:
    return int(__builtins__["loads"])  # type: ignore[index]


def test_a_build_loads_nothing_that_it_does_not_need() -> None:
    done = subprocess.run([sys.executable, "-c", OF_A_BUILD], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "click.core" in loaded
    assert not loaded & DEAR


def test_a_module_is_loaded_by_its_first_use_and_not_by_imports(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = later(module, monkeypatch, {})
    assert import_module(module) is found
    assert loads() == 0
    assert found.half() == 21
    assert (loads(), found.__spec__.loader, type(found)) == (1, found.__loader__, ModuleType)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = found.nothing


def test_what_stands_for_a_part_of_it_goes_when_it_is_loaded(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = later(module, monkeypatch, {"half": lambda: 7})
    assert (found.half(), loads()) == (7, 0)
    assert found.answer == 42
    assert (found.half(), loads()) == (21, 1)


def test_threads_that_need_it_at_once_load_it_once(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = later(module, monkeypatch, {})
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: found.half(), range(64))) == {21}
    assert loads() == 1


@pytest.mark.parametrize("words", [["build", "--help"], ["--help"], ["service", "create", "--help"]])
def test_help_is_as_it_is_without(words: list[str]) -> None:
    """Click lays it out with inspect, and translates it."""
    plain = "import sys; from swarmd.cli.main import run; sys.exit(run(sys.argv[1:]))"
    by_itself, started = (
        subprocess.run([sys.executable, *how, *words], capture_output=True, text=True, check=True)
        for how in (["-c", plain], ["-m", "swarmd.cli.start"])
    )
    assert started.stdout == by_itself.stdout != ""
