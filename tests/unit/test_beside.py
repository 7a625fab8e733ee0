"""What ``make test`` says when it runs the tests of clusters in processes of their own: all of it, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
[pytest]
addopts = --import-mode=importlib -ra
markers = cluster: apart
"""
HERE = """
import pytest
def test_here(): pass
def test_not_here(): pytest.skip("not here")
"""
APART = """
import os, pytest
pytestmark = pytest.mark.cluster
@pytest.fixture
def trio(): pass
def test_trio(trio): pass
@pytest.mark.parametrize("word", ["a b", "[c]"])
def test_apart(word): pass
def test_not_apart(): pytest.skip("not apart")
@pytest.mark.xfail(strict=True)
def test_known(): assert False
"""
WRONG = """
def test_wrong():
    print("it said so")
    assert os.getpid() == 0
"""
KILLED = """
def test_killed(): os.kill(os.getpid(), 9)
def test_after(): pass
"""


def run(directory: Path, apart: str, *options: str) -> subprocess.CompletedProcess[str]:
    """``pytest OPTIONS`` on a module of either kind."""
    (directory / "pytest.ini").write_text(SETTINGS)
    (directory / "test_here.py").write_text(HERE)
    (directory / "test_apart.py").write_text(apart)
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.beside", *options],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": root, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_both_kinds_are_counted_in_one_closing_line(tmp_path: Path) -> None:
    done = run(tmp_path, APART)
    last = done.stdout.splitlines()[-1]
    assert "4 passed, 2 skipped, 1 xfailed" in last, done.stdout
    assert done.returncode == 0
    assert "not apart" in done.stdout


def test_a_failure_there_is_shown_and_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, APART + WRONG)
    assert "1 failed, 4 passed, 2 skipped, 1 xfailed" in done.stdout.splitlines()[-1], done.stdout
    assert "it said so" in done.stdout
    assert "FAILED test_apart.py::test_wrong - assert" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED


def test_tests_whose_process_ended_before_them_are_errors(tmp_path: Path) -> None:
    done = run(tmp_path, APART + KILLED)
    assert "4 passed, 2 skipped, 1 xfailed, 2 errors" in done.stdout.splitlines()[-1], done.stdout
    assert "ended (code -9) before this one did" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
