"""Interpreters that the product starts: they run its code, not what lies around where it was started."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from swarmd.cli.local.cluster import DAEMON
from swarmd.node.network.secure.keeper import COMMAND


@pytest.mark.parametrize("command", [(*COMMAND, "no such device"), (*DAEMON[:4], "--help")])
def test_no_module_of_the_present_directory_is_imported(command: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("open('imported', 'w')\n")
    done = subprocess.run(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert not (tmp_path / "imported").exists()
    assert b"No module named" not in done.stderr
