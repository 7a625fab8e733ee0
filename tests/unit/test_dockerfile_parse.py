"""Dockerfiles taken apart: against BuildKit's own data, and what its users are told when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.image.build.core.history import quote
from swarmd.image.build.core.parse import Instruction, parse, split_words
from swarmd.model.errors import Invalid

DATA = Path(__file__).parents[1] / "data" / "dockerfile"


def cases(folder: str) -> list[Path]:
    return sorted((DATA / folder).iterdir())


def shown(said: Instruction) -> str:
    """As BuildKit prints its tree."""
    flags = f" [{' '.join(map(quote, said.flags))}]" if said.flags else ""
    inner = f" ({shown(said.inner)})" if said.inner else ""
    return " ".join([f"{said.keyword}{flags}{inner}", *map(quote, said.args)])


def heredocs(text: str) -> list[tuple[str, str, bool, bool, int]]:
    said = parse(b"FROM alpine\n" + text.encode()).instructions[1]
    return [
        (found.name, found.content, found.mark.expand, found.mark.strip_tabs, found.mark.descriptor)
        for found in said.heredocs
    ]


def test_the_data_is_all_there() -> None:
    assert len(cases("parser")) == 30
    assert len(cases("parser-negative")) == 2


@pytest.mark.parametrize("case", cases("parser"), ids=lambda case: case.name)
def test_a_dockerfile_is_the_tree_that_buildkit_sees(case: Path) -> None:
    found = parse((case / "Dockerfile").read_bytes())
    assert "".join(f"({shown(said)})\n" for said in found.instructions) == (case / "result").read_text()


@pytest.mark.parametrize("case", cases("parser-negative"), ids=lambda case: case.name)
def test_what_buildkit_refuses_is_refused_with_its_line(case: Path) -> None:
    with pytest.raises(Invalid, match=r"^dockerfile parse error on line \d+: "):
        parse((case / "Dockerfile").read_bytes())


def test_an_instruction_knows_its_first_and_last_row() -> None:
    found = parse((DATA / "lines" / "Dockerfile").read_bytes())
    rows = [(said.line.first, said.line.last) for said in found.instructions]
    assert rows == [(5, 5), (11, 12), (17, 31)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "the Dockerfile cannot be empty"),
        (" \n\n", "the Dockerfile cannot be empty"),
        ("# only this\n", "line 1: file with no instructions"),
        ("# escape=\\\n# escape=`\nFROM a", "line 2: only one escape parser directive can be used"),
        ("# escape=x\nFROM a", "line 1: invalid escape token 'x' does not match ` or \\\\"),
        ("FROM a\nENV x", "line 2: ENV must have two arguments"),
        ("FROM a\nLABEL a=b c", 'can\'t find = in "c". Must be of the form: name=value'),
        ("FROM a\nCMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nRUN <<EOF\nls", "line 2: unterminated heredoc: no line is just 'EOF'"),
        ("FROM a\nRUN " + "x" * 65536, "line 2: dockerfile line greater than max allowed size of 65535"),
    ],
)
def test_an_error_names_line_and_reason(text: str, error: str) -> None:
    with pytest.raises(Invalid, match=error):
        parse(text.encode())


def test_another_encoding_is_named_as_the_trouble() -> None:
    with pytest.raises(Invalid, match="line 2: not UTF-8"):
        parse(b"FROM a\nRUN echo \xff\xfe\n")


def test_directives_are_read_only_at_the_head() -> None:
    found = parse(b"# Syntax = docker/dockerfile:1\n# check=skip=all\n# x=y\n# escape=`\nFROM a\n")
    assert found.directives == {"syntax": "docker/dockerfile:1", "check": "skip=all"}
    assert found.escape == "\\"


def test_a_mark_at_the_beginning_and_windows_line_ends_are_no_text() -> None:
    found = parse(b"\xef\xbb\xbfFROM a\r\nRUN echo \\\r\n  hi\r\n")
    assert [said.args for said in found.instructions] == [("a",), ("echo   hi",)]


def test_comments_vanish_from_within_an_instruction_and_empty_rows_are_noted() -> None:
    found = parse(b"FROM a\nRUN x \\\n  # no\n\n  && y # yes\nRUN a \\\\\n").instructions
    assert found[1].args == ("x   && y # yes",)
    assert found[1].line.gaps
    assert found[2].args == ("a \\\\",)
    assert not found[2].line.gaps


def test_the_backtick_continues_lines_when_asked_to() -> None:
    found = parse(b"# escape=`\nFROM a\nRUN dir `\n  c:\\\nCOPY a` b c\\\n").instructions
    assert [said.args for said in found[1:]] == [("dir   c:\\",), ("a`", "b", "c\\")]


def test_flags_end_where_the_arguments_begin() -> None:
    said = parse(b"FROM a\nRUN --mount=type=cache,target='/a b' --net\\work=x -- --y z\n").instructions[1]
    assert said.flags == ("--mount=type=cache,target=/a b", "--network=x")
    assert said.args == ("--y z",)


@pytest.mark.parametrize("text", ['["a", "b"', "['a']", '["a"] b', "[a]", '["a",]', "[" * 5000])
def test_what_only_looks_like_json_goes_to_the_shell(text: str) -> None:
    said = parse(f"FROM a\nRUN {text}\n".encode()).instructions[1]
    assert (said.args, said.exec_form) == ((text,), False)


def test_half_a_character_in_json_is_shown_as_such() -> None:
    said = parse(rb"FROM a" + b"\n" + rb'CMD ["\ud800", "\ud83d\ude80"]').instructions[1]
    assert said.args == ("�", "🚀")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RUN <<EMPTY\nEMPTY\n", [("EMPTY", "", True, False, 0)]),
        ("RUN 3<<EOF\nEOF\n", [("EOF", "", True, False, 3)]),
        ('RUN "<<NOHEREDOC"\n', []),
        ("RUN <<I\n\tfoo\n\tbar\nI\n", [("I", "\tfoo\n\tbar\n", True, False, 0)]),
        ("RUN <<-U\n\tbaz\n\tU\n", [("U", "\tbaz\n", True, True, 0)]),
        ("RUN <<-'N'\n\tdon't $NAME\nN\n", [("N", "\tdon't $NAME\n", False, True, 0)]),
        ("RUN <<C\n# inside\necho # behind\nC\n", [("C", "# inside\necho # behind\n", True, False, 0)]),
        ("RUN --mount=type=cache,target=/foo <<M\necho\nM\n", [("M", "echo\n", True, False, 0)]),
        ("COPY <<X <<Y /dest\nY\nX\nX\nY\n", [("X", "Y\n", True, False, 0), ("Y", "X\n", True, False, 0)]),
        ("COPY <<file.txt /dest\nhello\nfile.txt\n", [("file.txt", "hello\n", True, False, 0)]),
        ("RUN <<eo'f'\necho\neof\n", [("eof", "echo\n", False, False, 0)]),
        ("RUN <<eo\\'f\necho\neo'f\n", [("eo'f", "echo\n", True, False, 0)]),
        ("RUN <<'e'o\\'f\necho\neo'f\n", [("eo'f", "echo\n", False, False, 0)]),
        ("RUN <<'one two'\necho\none two\n", [("one two", "echo\n", False, False, 0)]),
        ("RUN <<$EOF\n$EOF\n", [("$EOF", "", True, False, 0)]),
        ("RUN <<  EOF\nEOF\n", [("EOF", "", True, False, 0)]),
        ("RUN <<  EOF  > foo\nEOF\n", [("EOF", "", True, False, 0)]),
        ("RUN << -EOF\n-EOF\n", [("-EOF", "", True, False, 0)]),
        ("RUN <<- EOF\nEOF\n", [("EOF", "", True, True, 0)]),
        ("RUN <<EOF <<EOF2\nEOF\nEOF2\n", [("EOF", "", True, False, 0), ("EOF2", "", True, False, 0)]),
        ("ONBUILD RUN <<EOF\nls\nEOF\n", [("EOF", "ls\n", True, False, 0)]),
        ("RUN echo $(( 1 << 2 ))\n", []),
        ("RUN cat <<< EOF\n", []),
        ("RUN <EOF\n", []),
        ("RUN <<'EOF\n", []),
        ('RUN ["<<EOF"]\n', []),
        ("ENV X=<<EOF\n", []),
    ],
)
def test_a_heredoc_is_announced_outside_quotes(
    text: str, found: list[tuple[str, str, bool, bool, int]]
) -> None:
    assert heredocs(text) == found


def test_a_heredoc_among_sources_keeps_its_place_and_a_name_with_spaces() -> None:
    said = parse(b"FROM a\nCOPY a << 'x y' <<b /d/\n1\nx y\n2\nb\n").instructions[1]
    assert said.args == ("a", "<<x y", "<<b", "/d/")
    assert {at: found.content for at, found in said.inline.items()} == {1: "1\n", 2: "2\n"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("foo", ["foo"]),
        ("foo bar", ["foo", "bar"]),
        (r"foo\ bar", [r"foo\ bar"]),
        ("foo=bar", ["foo=bar"]),
        ("foo bar 'abc xyz'", ["foo", "bar", "'abc xyz'"]),
        ('föo bàr "âbc xÿz"', ["föo", "bàr", '"âbc xÿz"']),
        ("a\\", ["a"]),
        ('"a\\', ['"a']),
        ("'a b", ["'a b"]),
        (r"'a\' b", [r"'a\'", "b"]),
    ],
)
def test_words_keep_their_quotes(text: str, words: list[str]) -> None:
    assert split_words(text, "\\") == words
