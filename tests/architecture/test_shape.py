"""The written rules of STYLE.md that a machine can check: sizes, and calls that have one home."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture import source

RULE_LINES, ALARM_LINES, FUNCTION_LINES = 300, 500, 40

# Longer than the rule allows, and why that reads better than two halves.
LONG_FILES = {
    "swarmd/daemon/managing.py": "the composition root of a manager: wiring, part by part",
    "swarmd/node/network/shell.py": "NetworkPort: a short method for each of its promises",
    "swarmd/daemon/member.py": "one membership: identity, port, two halves, and the role between them",
}
LONG_TESTS = {
    "tests/integration/test_local_cluster.py": "one stand-in daemon serves all of its tests",
    "tests/unit/test_raft_group.py": "one network of members in memory serves all of its tests",
}
LONG_FUNCTIONS = {
    "swarmd/daemon/managing.py Managing.__init__": "wiring: each line names a part",
    "swarmd/daemon/working.py Working.__init__": "wiring: each line names a part",
    "swarmd/store/raft/node.py RaftNode.__init__": "wiring: each line names a part",
}


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_files_are_short_and_the_list_says_why_some_are_not() -> None:
    long = {source.name(path) for path in source.package() if lines_of(path) > RULE_LINES}
    assert sorted(long - LONG_FILES.keys()) == [], f"over {RULE_LINES} lines: divide them, or list the reason"
    assert sorted(LONG_FILES.keys() - long) == [], "short again: take them off the list"


def test_no_file_is_so_long_that_it_must_be_two() -> None:
    ours = [path for path in source.files(".py") if path.parent != source.GENERATED]
    alarming = {source.name(path) for path in ours if lines_of(path) > ALARM_LINES}
    assert sorted(alarming - LONG_TESTS.keys()) == [], f"over {ALARM_LINES} lines"
    assert sorted(LONG_TESTS.keys() - alarming) == [], "short again: take them off the list"


def test_functions_fit_on_a_screen_and_the_list_says_why_some_do_not() -> None:
    long = {
        f"{source.name(path)} {function}"
        for path in source.package()
        for function, lines in source.functions(path)
        if lines > FUNCTION_LINES
    }
    assert sorted(long - LONG_FUNCTIONS.keys()) == [], (
        f"over {FUNCTION_LINES} lines: divide, or list the reason"
    )
    assert sorted(LONG_FUNCTIONS.keys() - long) == [], "short again: take them off the list"


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        source.name(path)
        for path in source.package()
        if (tree := ast.parse(path.read_text())).body and not ast.get_docstring(tree)
    ]
    assert silent == []


def called_names(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names of everything called in a file: ``asyncio.create_task``, ``group.create_task``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def imported_names(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def is_ownerless(call: str) -> bool:
    """Whether a call starts background work nobody waits for; a TaskGroup, always called group, waits."""
    receiver, _, verb = call.rpartition(".")
    return verb in ("create_task", "ensure_future") and not receiver.endswith("group")


def outside_kit() -> list[Path]:
    return [path for path in source.package() if not path.is_relative_to(source.ROOT / "swarmd" / "kit")]


def test_every_background_task_has_an_owner() -> None:
    found = [
        f"{source.name(path)}:{line} {call}"
        for path in outside_kit()
        for call, line in called_names(path)
        if is_ownerless(call)
    ]
    assert found == [], "use kit.supervise.Nursery or a kit.groups.TaskGroup"


def test_groups_of_tasks_are_those_that_leave_no_mark() -> None:
    calls = ((path, call) for path in outside_kit() for call, _ in called_names(path))
    found = [source.name(path) for path, call in calls if call == "asyncio.TaskGroup"]
    assert found == [], "use kit.groups.TaskGroup"


@pytest.mark.parametrize(
    ("call", "ownerless"),
    [
        ("asyncio.create_task", True),
        ("loop.create_task", True),
        ("ensure_future", True),
        ("group.create_task", False),
        ("self._group.create_task", False),
        ("nursery.start", False),
    ],
)
def test_the_rule_about_owners_knows_its_cases(call: str, ownerless: bool) -> None:
    assert is_ownerless(call) is ownerless


@pytest.mark.parametrize("module", ["pickle", "multiprocessing", "shelve", "dill"])
def test_nothing_is_unpickled_or_forked_by_a_library(module: str) -> None:
    found = [
        f"{source.name(path)}:{line}"
        for path in source.package()
        for name, line in imported_names(path)
        if name.partition(".")[0] == module
    ]
    assert found == []


def test_only_the_first_process_of_a_local_node_forks() -> None:
    forks = {"os.fork", "os.forkpty", "pty.fork"}
    begins_a_pid_namespace = "swarmd/cli/local/init.py"
    found = [
        f"{source.name(path)}:{line} {name}"
        for path in source.package()
        for name, line in (*called_names(path), *imported_names(path))
        if name in forks and source.name(path) != begins_a_pid_namespace
    ]
    assert found == [], "containers are cloned by the spawner; the daemon never forks"
