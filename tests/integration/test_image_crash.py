"""Killed at any step on the disk, the store opens again and is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def test_a_kill_at_any_step_leaves_a_store_that_is_right_and_can_go_on(memory_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.image_crash", str(memory_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60, "fewer steps than this work takes: the kills did not happen"
