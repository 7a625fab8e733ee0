"""Words of a Dockerfile: quotes, escapes, substitutions."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.image.build.core import wildcard
from swarmd.image.build.core.words import expand
from swarmd.model.errors import Invalid

DATA = Path(__file__).parents[1] / "data" / "dockerfile"
ENV = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}


def expansions() -> list[tuple[str, str]]:
    rows = (line for line in (DATA / "expansion.txt").read_text().splitlines() if not line.startswith("#"))
    cases = [tuple(part.strip() for part in row.split("|")) for row in rows]
    return [(source, expected) for system, source, expected in cases if system in "AU"]


def divisions() -> list[tuple[str, dict[str, str], list[str]]]:
    env: dict[str, str] = {}
    cases: list[tuple[str, dict[str, str], list[str]]] = []
    for line in (DATA / "words.txt").read_text().split("\n"):
        if line.startswith("ENV "):
            name, _, value = line.removeprefix("ENV ").partition("=")
            env = {**env, name: value}
        elif line and not line.startswith("#"):
            source, _, expected = line.partition("|")
            cases.append((source.strip(), env, expected.removeprefix(" ").split(",")))
    return cases


def test_the_data_is_all_there() -> None:
    assert len(expansions()) > 180
    assert len(divisions()) == 24


@pytest.mark.parametrize(("source", "expected"), expansions())
def test_a_word_is_expanded_as_other_builders_do(source: str, expected: str) -> None:
    if expected == "error":
        with pytest.raises(Invalid, match="failed to process"):
            expand(source, ENV)
    else:
        assert expand(source, ENV).text == expected


@pytest.mark.parametrize(("source", "env", "expected"), divisions())
def test_words_are_divided_after_expansion_and_not_within_quotes(
    source: str, env: dict[str, str], expected: list[str]
) -> None:
    if expected == ["error"]:
        with pytest.raises(Invalid):
            expand(source, env)
    else:
        assert list(expand(source, env).words) == expected


@pytest.mark.parametrize(
    ("source", "env", "expected"),
    [
        (r"${FOO#()[]{\}^$.\*\?|\\}", {"FOO": r"()[]{}^$.*?|\x"}, "x"),
        (r"${FOO%%\**}", {"FOO": "xx**"}, "xx"),
        ("${FOO#*x*y}", {"FOO": "xxyy"}, "y"),
        ("${FOO#*}", {"FOO": "xxyy"}, "xxyy"),
        ("${FOO#$BAR}", {"FOO": "xxyy", "BAR": "x"}, "xyy"),
        ("${FOO#$BAR}", {"FOO": "xxyy", "BAR": ""}, "xxyy"),
        ("${FOO#}", {"FOO": "xxyy"}, "xxyy"),
        ("${FOO##*x}", {"FOO": "xxyy"}, "yy"),
        ("${FOO##}", {"FOO": "xxyy"}, "xxyy"),
        (r"${FOO#?\?}", {"FOO": "???y"}, "?y"),
        ("${ABC:-.}${FOO%x}${ABC:-.}", {"FOO": "xxyy"}, ".xxyy."),
        (r"${FOO%%\**\*}", {"FOO": "a***yy*"}, "a"),
        ("${FOO%}", {"FOO": "xxyy"}, "xxyy"),
        ("${FOO%%$BAR}", {"FOO": "xxyy", "BAR": ""}, "xxyy"),
        (
            "${FOO/$NEEDLE/.} - ${FOO//$NEEDLE/.}",
            {"FOO": "/foo*/*/*.txt", "NEEDLE": r"\*/"},
            "/foo.*/*.txt - /foo..*.txt",
        ),
        (
            "${FOO/$NEEDLE/} - ${FOO//$NEEDLE/}",
            {"FOO": "/tmp/tmp/bar.txt", "NEEDLE": "/tmp"},
            "/tmp/bar.txt - /bar.txt",
        ),
        (
            "${FOO/$NEEDLE/$REPLACEMENT} - ${FOO//$NEEDLE/$REPLACEMENT}",
            {"FOO": "/a/foo/b/c.txt", "NEEDLE": "/?/", "REPLACEMENT": "/"},
            "/foo/b/c.txt - /foo/c.txt",
        ),
        (
            "${FOO/$NEEDLE/$REPLACEMENT}",
            {"FOO": "http://google.de", "NEEDLE": "http://", "REPLACEMENT": "https://"},
            "https://google.de",
        ),
        (r"${FOO//\//\/}", {"FOO": "/tmp/foo.txt"}, r"\/tmp\/foo.txt"),
        ("${FOO/$BAR/ww}", {"FOO": "xxyy", "BAR": ""}, "wwxxyy"),
        ("${FOO///}", {"FOO": "xxyy"}, "xxyy"),
        ("${FOO///}", {}, ""),
    ],
)
def test_a_value_is_trimmed_and_replaced_by_pattern(source: str, env: dict[str, str], expected: str) -> None:
    assert expand(source, env).text == expected


@pytest.mark.parametrize(
    "source", ["${FOO//ww}", "${FOO//}", "${FOO=aaa}", "${FOO=:aaa}", "${FOO=}", r"${FOO#\x}"]
)
def test_what_is_no_substitution_is_refused(source: str) -> None:
    with pytest.raises(Invalid):
        expand(source, {"FOO": "xxyy"})


@pytest.mark.parametrize(
    ("env", "why"),
    [({"VAR": "", "ARG": "x"}, "VAR: message herex"), ({"ARG": "x"}, "VAR: message herex")],
)
def test_a_variable_that_must_not_be_empty_says_why(env: dict[str, str], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        expand("${VAR:?message here$ARG}", env)
    with pytest.raises(Invalid, match="is not allowed to be"):
        expand("${VAR:?}", env)


def test_names_that_nobody_set_are_told_once_each() -> None:
    assert expand("$a ${b:-x} $a $PWD", ENV).unset == ("a", "b")


def test_quotes_stay_in_a_heredoc_and_escapes_still_count() -> None:
    text = "\"foo\" 'bar' it's $PWD \\$PWD\n"
    assert expand(text, ENV, quotes=False).text == "\"foo\" 'bar' it's /home $PWD\n"


def test_the_escape_of_windows_leaves_backslashes_alone() -> None:
    assert expand(r"c:\dir`\$PWD \$PWD", ENV, escape="`").text == r"c:\dir\/home \/home"


def test_the_shortest_end_is_taken_from_the_right() -> None:
    pattern = wildcard.read(".*")
    assert wildcard.trim("a.tar.gz", pattern, suffix=True, longest=False) == "a.tar"
    assert wildcard.trim("a.tar.gz", pattern, suffix=True, longest=True) == "a"


def test_many_stars_and_much_nesting_end_soon() -> None:
    long = {"X": "a" * 20_000}
    for form in ("#", "##", "%", "%%"):
        assert expand(f"${{X{form}{'*a' * 40}*b}}", long).text == long["X"]
    assert expand(f"${{X//{'*a' * 40}*b/c}}", long).text == long["X"]
    with pytest.raises(Invalid, match="nested too deeply"):
        expand("${a:-" * 5000 + "}" * 5000, {})
