"""Whatever a Dockerfile holds: it is planned, or refused in words."""

from __future__ import annotations

import contextlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmd.image.build.core.ignore import Ignore
from swarmd.image.build.core.instructions import KEYWORDS
from swarmd.image.build.core.parse import parse
from swarmd.image.build.core.plan import Options, bases, plan
from swarmd.image.build.core.words import expand
from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid, NotFound

PIECES = st.sampled_from(
    [
        *(f"\n{keyword} " for keyword in (*KEYWORDS, "FROM", "RUN", "COPY", "ADD", "ARG", "ENV")),
        *(
            "--mount=type=",
            "bind",
            "cache",
            ",target=/x",
            "--from=",
            "--chown=a ",
            "AS ",
            "scratch",
            "a",
            "b",
        ),
        *(
            "$a",
            "${a",
            ":-",
            "}",
            "#",
            "%",
            "/",
            "=",
            "'",
            '"',
            "\\",
            "\\\n",
            "\n",
            "\n# x\n",
            " ",
            "\t",
            ".",
        ),
        *("<<EOF", "<<-'E'", "\nEOF\n", "\nE\n", '["a", "b"]', "[", "]", "80/tcp", "CMD ", "é", "\0", "\r"),
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=25).map("".join))
# The same examples each time: what they are is not to depend on the machine or the day.
CALM = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@given(TEXTS)
@CALM
def test_a_dockerfile_is_planned_or_refused(text: str) -> None:
    with contextlib.suppress(Invalid, NotFound):
        dockerfile = parse(b"FROM scratch\n" + text.encode("utf-8", "replace"))
        found = bases(dockerfile, Options())
        made = plan(dockerfile, Options(), dict.fromkeys(found, ImageConfig(onbuild=("RUN x",))))
        assert made.stages[-1].index == made.target or made.target in {stage.index for stage in made.stages}
        for stage in made.stages:
            for step in stage.steps:
                assert step.line <= step.last_line


@given(st.binary(max_size=80))
@CALM
def test_bytes_are_parsed_or_refused(content: bytes) -> None:
    with contextlib.suppress(Invalid):
        rows = content.count(b"\n") + 1
        for said in parse(content).instructions:
            assert 1 <= said.line.first <= said.line.last <= rows


@given(st.text(max_size=40), st.sampled_from(["'", '"', "\\"]))
@CALM
def test_what_is_quoted_comes_back(text: str, how: str) -> None:
    if how == "'":
        quoted = "'" + text.replace("'", "'\"'\"'") + "'"
    elif how == '"':
        quoted = '"' + "".join(f"\\{char}" if char in '"$\\' else char for char in text) + '"'
    else:
        quoted = "".join(f"\\{char}" for char in text)
    found = expand(quoted, {})
    assert found.text == text
    assert found.words == ((text,) if text else ())


@given(st.text(max_size=30), st.dictionaries(st.sampled_from("abc"), st.text(max_size=5)))
@CALM
def test_words_together_are_the_text_without_its_spaces(text: str, env: dict[str, str]) -> None:
    with contextlib.suppress(Invalid):
        found = expand(text.replace("'", "").replace('"', "").replace("\\", ""), env)
        assert "".join(found.words) == "".join(found.text.split())


@given(st.lists(st.sampled_from(["*", "!a", "a", "a/b", "!a/b", "**/b", "a/*", "!**/c"]), max_size=5))
@CALM
def test_nothing_that_is_let_in_is_below_a_directory_that_is_passed_over(patterns: list[str]) -> None:
    found = Ignore(patterns)
    for directory in ("a", "b", "a/b"):
        if found.ignores(directory) and not found.may_hold(directory):
            for below in ("a", "b", "c", "b/c"):
                assert found.ignores(f"{directory}/{below}")
