"""``swarmctl build``: what is sent of a context, what flags mean, how it goes on is shown."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from swarmd.cli.build_cache import directories
from swarmd.cli.build_context import BuildContext
from swarmd.cli.build_show import Plain, Raw, Steps, Terminal, failure_text
from swarmd.cli.build_source import source
from swarmd.cli.commands.build import _build_args, _secret
from swarmd.cli.errors import CliError
from swarmd.rpc.v1 import build_pb2 as pb


@pytest.fixture
def top(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    (context / "node_modules" / "deep").mkdir(parents=True)
    (context / "src").mkdir()
    (context / "src" / "a.py").write_text("a")
    (context / "src" / "b.py").write_text("b" * 3_000_000)
    (context / "node_modules" / "x.js").write_text("x")
    (context / "node_modules" / "deep" / "keep.js").write_text("k")
    (context / "link").symlink_to("src/a.py")
    return context


def listed(context: BuildContext) -> dict[str, pb.ContextEntry]:
    parts = list(context.entries())
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    return {os.fsdecode(entry.path): entry for part in parts for entry in part.entries}


def test_the_list_has_every_entry_with_its_digest(top: Path) -> None:
    found = listed(BuildContext(top, b"", 0.0))
    assert sorted(found) == [
        "link", "node_modules", "node_modules/deep", "node_modules/deep/keep.js", "node_modules/x.js",
        "src", "src/a.py", "src/b.py",
    ]  # fmt: skip
    assert found["link"].link == b"src/a.py"
    assert len(found["src/a.py"].digest) == 32


def test_what_is_ignored_is_not_listed_but_for_what_is_taken_back(top: Path) -> None:
    assert "node_modules" not in listed(BuildContext(top, b"node_modules\n", 0.0))
    found = listed(BuildContext(top, b"node_modules\n!node_modules/deep/keep.js\n", 0.0))
    assert [name for name in found if name.startswith("node_modules")] == ["node_modules/deep/keep.js"]


def test_files_are_sent_by_their_number_in_pieces(top: Path) -> None:
    context = BuildContext(top, b"", 0.0)
    numbers = {name: number for number, name in enumerate(listed(context))}
    wanted = [numbers["src/a.py"], numbers["src/b.py"]]
    pieces = [piece for part in context.files(wanted) for piece in part.files]
    content = {number: b"".join(one.data for one in pieces if one.number == number) for number in wanted}
    assert content == {wanted[0]: b"a", wanted[1]: b"b" * 3_000_000}
    assert [one.number for one in pieces if one.last] == wanted


def test_digests_are_remembered_until_a_file_changes(top: Path, tmp_path: Path) -> None:
    memory, later = tmp_path / "memory", 4_000_000_000.0
    first = listed(BuildContext(top, b"", later, memory))
    assert memory.exists()
    (top / "src" / "a.py").write_text("changed")
    second = listed(BuildContext(top, b"", later, memory))
    assert second["src/a.py"].digest != first["src/a.py"].digest
    assert second["src/b.py"].digest == first["src/b.py"].digest


def test_a_file_that_may_still_change_unseen_is_not_remembered(top: Path, tmp_path: Path) -> None:
    """Its times cannot tell a second change within the same tick."""
    memory = tmp_path / "memory"
    now = (top / "src" / "a.py").stat().st_mtime
    listed(BuildContext(top, b"", now, memory))
    assert not memory.exists()


def test_the_dockerfile_has_an_ignore_file_of_its_own(top: Path) -> None:
    (top / "other").write_text("FROM scratch\n")
    (top / ".dockerignore").write_text("general")
    with source(str(top), str(top / "other")) as found:
        assert (found.dockerfile, found.ignore) == (b"FROM scratch\n", b"general")
    (top / "other.dockerignore").write_text("own")
    with source(str(top), str(top / "other")) as found:
        assert found.ignore == b"own"


def test_what_is_missing_is_named(top: Path) -> None:
    with pytest.raises(CliError, match="failed to read dockerfile: open Dockerfile"), source(str(top), None):
        pass
    with pytest.raises(CliError, match="path 'nowhere' not found"), source("nowhere", None):
        pass


def test_secrets_come_from_files_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").write_text("from file")
    monkeypatch.setenv("TOKEN", "from env")
    assert _secret(f"id=a,src={tmp_path / 's'}").value == b"from file"
    assert _secret("id=a,env=TOKEN").value == b"from env"
    assert _secret("id=TOKEN").value == b"from env"
    for bad in ("src=x", "id=a,env=MISSING_VARIABLE", "id=a,other=1", f"id=a,src={tmp_path / 'none'}"):
        with pytest.raises(CliError, match="invalid secret"):
            _secret(bad)


def test_build_arguments_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert _build_args(["A=1=2", "HERE", "MISSING_VARIABLE"]) == {"A": "1=2", "HERE": "yes"}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    assert _build_args([]) == {"SOURCE_DATE_EPOCH": "5"}


def test_only_directories_hold_caches() -> None:
    assert directories(["type=local,dest=/x"], "dest") == [Path("/x")]
    with pytest.raises(CliError, match='invalid build cache "type=registry,ref=x"'):
        directories(["type=registry,ref=x"], "dest")


def vertex(number: int, name: str, started: float = 0.0, **fields: object) -> pb.BuildResponse:
    told = pb.BuildVertex(number=number, name=name, started=started, **fields)  # type: ignore[arg-type]
    return pb.BuildResponse(vertex=told)


def output(number: int, data: bytes, at: float) -> pb.BuildResponse:
    return pb.BuildResponse(output=pb.BuildOutput(vertex=number, stream=1, data=data, at=at))


EVENTS = [
    vertex(0, "[1/3] FROM base"),
    vertex(1, "[2/3] RUN make"),
    vertex(2, "[3/3] COPY a /"),
    vertex(0, "[1/3] FROM base", 10.0, completed=10.0, cached=True),
    vertex(1, "[2/3] RUN make", 10.0),
    output(1, b"one\ntw", 10.5),
    output(1, b"o\n", 11.0),
    vertex(2, "[3/3] COPY a /", 10.0),
    vertex(2, "[3/3] COPY a /", 10.0, completed=10.2),
    output(1, b"last", 12.0),
    vertex(1, "[2/3] RUN make", 10.0, completed=12.5, error="it broke"),
]


def test_plain_progress_is_that_of_buildkit() -> None:
    lines: list[str] = []
    plain = Plain(lines.append)
    for event in EVENTS:
        plain.event(event)
    assert "".join(lines) == (
        "#1 [1/3] FROM base\n#1 CACHED\n\n"
        "#2 [2/3] RUN make\n#2 0.500 one\n#2 1.000 two\n#2 ...\n\n"
        "#3 [3/3] COPY a /\n#3 DONE 0.2s\n\n"
        "#2 [2/3] RUN make\n#2 2.500 last\n#2 ERROR: it broke\n\n"
    )


def test_a_failure_shows_the_last_output_and_the_lines() -> None:
    steps = Steps()
    for event in EVENTS:
        steps.see(event)
    failure = pb.BuildFailure(vertex=1, message="it broke", excerpt="Dockerfile:2\n…")
    assert failure_text(failure, steps).splitlines() == [
        "------", " > [2/3] RUN make:", "0.500 one", "1.000 two", "2.500 last", "------",
        "Dockerfile:2", "…", "ERROR: failed to solve: it broke",
    ]  # fmt: skip


def test_a_terminal_shows_steps_that_began() -> None:
    screen = io.StringIO()
    terminal = Terminal(screen, 60, 24)
    for event in EVENTS:
        terminal.event(event)
    terminal.close()
    shown = screen.getvalue()
    assert " => CACHED [1/3] FROM base" in shown
    assert " => ERROR [2/3] RUN make" in shown
    assert "2.5s" in shown


def test_raw_progress_is_a_line_of_json_for_each_event() -> None:
    lines: list[str] = []
    raw = Raw(lines.append)
    for event in EVENTS[:6]:
        raw.event(event)
    assert len(lines) == 6
    assert '"name": "[1/3] FROM base"' in lines[0]
    assert '"logs"' in lines[5]
