"""Conversations with the swarm.  REWRITE=1 writes the answers anew: keep what you can explain."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scripts.runner import replay, scripts


@pytest.mark.parametrize("path", scripts(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_swarm_answers_as_the_script_says(path: Path) -> None:
    script = path.read_text()
    answered = replay(script)
    if os.environ.get("REWRITE"):
        path.write_text(answered)
    assert answered == path.read_text()


def test_there_are_scripts() -> None:
    assert len(scripts()) >= 6
