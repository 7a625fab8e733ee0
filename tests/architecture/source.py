"""What the architecture tests read: the project's files and functions, without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "swarmd" / "rpc" / "v1"
_NOT_OURS = {".venv", ".git", ".lab", "build", "dist", "__pycache__"}


def files(*suffixes: str) -> Iterator[Path]:
    """Every file of the project with one of ``suffixes`` (all when none is given), without what was made."""
    waiting = [ROOT]
    while waiting:
        for entry in sorted(waiting.pop().iterdir()):
            if entry.name in _NOT_OURS or entry.name.endswith("_cache") or entry.name == ".hypothesis":
                continue
            if entry.is_dir():
                waiting.append(entry)
            elif not suffixes or entry.suffix in suffixes:
                yield entry


def package() -> list[Path]:
    """The Python files of ``swarmd`` that were written by hand."""
    return [
        path for path in files(".py") if path.is_relative_to(ROOT / "swarmd") and path.parent != GENERATED
    ]


def name(path: Path) -> str:
    """A path as the project writes it."""
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name (``Class.method``) and number of lines, without decorators, of each function in a file."""
    yield from _functions(ast.parse(path.read_text()), "")


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            full = f"{prefix}{child.name}"
            if not isinstance(child, ast.ClassDef):
                assert child.end_lineno is not None
                yield full, child.end_lineno - child.lineno + 1
            yield from _functions(child, f"{full}.")
        else:
            yield from _functions(child, prefix)
