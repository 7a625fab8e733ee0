"""Dockerfiles that are in use, and those of another builder's tests: their plans do not change unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.dockerfile_text import DATA, cases, text_of


def test_the_corpus_is_all_there() -> None:
    assert len(cases()) == 78


@pytest.mark.parametrize(
    ("source", "expected"), cases(), ids=[str(source.relative_to(DATA)) for source, _ in cases()]
)
def test_a_dockerfile_has_the_plan_that_was_read_and_kept(source: Path, expected: Path) -> None:
    assert text_of(source.read_bytes()) == expected.read_text()
