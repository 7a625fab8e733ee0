"""What the pages quote from the source is there: error texts, files, settings, variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.architecture import source

ROOT = source.ROOT
ANYTHING = "…"
"""In the pages and below: a part of a text that differs from case to case."""

PAGES = sorted((ROOT / "docs").rglob("*.md"))


@cache
def texts() -> tuple[str, ...]:
    """Every string in the package as a user would see it, with ``ANYTHING`` for what is filled in."""
    return tuple(text for path in source.package() for text in _texts(ast.parse(path.read_text())))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w*\}", ANYTHING, node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else ANYTHING for part in node.values)
            yield "".join(str(part) for part in parts)


def is_said(quote: str) -> bool:
    """Whether some text of the package contains ``quote``."""
    pieces = [re.escape(piece) for piece in quote.strip(f" {ANYTHING}").split(ANYTHING)]
    pattern = re.compile(".*".join(pieces), re.DOTALL)
    return any(pattern.search(text) for text in texts())


def quoted_errors() -> list[str]:
    """The first column of the table in docs/operations.md."""
    table = (ROOT / "docs" / "operations.md").read_text().partition("## What errors mean")[2]
    cells = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)
    return [quote for cell in cells if cell != "text" for quote in cell.split("<br>")]


def test_the_errors_explained_are_errors_the_program_says() -> None:
    quotes = quoted_errors()
    assert len(quotes) > 20
    assert [quote for quote in quotes if not is_said(quote)] == []


@pytest.mark.parametrize(
    ("quote", "said"),
    [
        ("invalid join token", True),
        ("port '…' is already in use by service '…'", True),
        ("port '…' is already in use by container '…'", False),
        ("a sentence nobody wrote", False),
    ],
)
def test_a_quote_is_recognised_by_its_fixed_parts(quote: str, said: bool) -> None:
    assert is_said(quote) is said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_source_files_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]*(?:\.(?:py|proto))?)`", page.read_text())
    ours = [name for name in named if (ROOT / "swarmd" / name.partition("/")[0]).is_dir() or _is_top(name)]
    assert [name for name in ours if not ((ROOT / name).exists() or (ROOT / "swarmd" / name).exists())] == []


def _is_top(name: str) -> bool:
    return name.partition("/")[0] in ("swarmd", "proto", "tests", "deploy", "benchmarks", "docs")


def test_the_table_of_source_files_is_where_the_test_above_finds_it() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().partition("## Where to find what")[2]
    assert len(re.findall(r"`[a-z_/]+(?:\.py|/)`", table)) > 10
