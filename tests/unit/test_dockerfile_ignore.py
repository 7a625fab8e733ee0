"""Patterns of .dockerignore, COPY and --exclude, with the table of moby/patternmatcher (Apache-2.0)."""

from __future__ import annotations

import pytest

from swarmd.image.build.core.ignore import Ignore, read_ignore
from swarmd.image.build.core.match import has_wildcards, matches, plain
from swarmd.model.errors import Invalid

DEEP = [
    ("**", "file", True),
    ("**", "file/", True),
    ("**/", "file", True),
    ("**/", "file/", True),
    ("**", "/", True),
    ("**/", "/", True),
    ("**", "dir/file", True),
    ("**/", "dir/file", True),
    ("**", "dir/file/", True),
    ("**/", "dir/file/", True),
    ("**/**", "dir/file", True),
    ("**/**", "dir/file/", True),
    ("dir/**", "dir/file", True),
    ("dir/**", "dir/file/", True),
    ("dir/**", "dir/dir2/file", True),
    ("dir/**", "dir/dir2/file/", True),
    ("**/dir", "dir", True),
    ("**/dir", "dir/file", True),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/*", "dir/dir2/file/", True),
    ("**/dir2/**", "dir/dir2/dir3/file", True),
    ("**/dir2/**", "dir/dir2/dir3/file/", True),
    ("**file", "file", True),
    ("**file", "dir/file", True),
    ("**/file", "dir/file", True),
    ("**file", "dir/dir/file", True),
    ("**/file", "dir/dir/file", True),
    ("**/file*", "dir/dir/file", True),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*txt", "dir/dir/file.txt", True),
    ("**/file*.txt", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True),
    ("**/**/*.txt", "dir/dir/file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("**/*.txt", "file.txt", True),
    ("**/**/*.txt", "file.txt", True),
    ("a**/*.txt", "a/file.txt", True),
    ("a**/*.txt", "a/dir/file.txt", True),
    ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a/*.txt", "a/dir/file.txt", False),
    ("a/*.txt", "a/file.txt", True),
    ("a/*.txt**", "a/file.txt", True),
    ("a[b-d]e", "ae", False),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True),
    (".*", ".foo", True),
    (".*", "foo", False),
    ("abc.def", "abcdef", False),
    ("abc.def", "abc.def", True),
    ("abc.def", "abcZdef", False),
    ("abc?def", "abcZdef", True),
    ("abc?def", "abcdef", False),
    ("**/foo/bar", "foo/bar", True),
    ("**/foo/bar", "dir/foo/bar", True),
    ("**/foo/bar", "dir/dir2/foo/bar", True),
    ("abc/**", "abc", False),
    ("abc/**", "abc/def", True),
    ("abc/**", "abc/def/ghi", True),
    ("**/.foo", ".foo", True),
    ("**/.foo", "bar.foo", False),
    ("a(b)c/def", "a(b)c/def", True),
    ("a(b)c/def", "a(b)c/xyz", False),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
    ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", True),
    ("a\\\\", "a\\", True),
    ("a\\*b", "a*b", True),
]

SEVERAL = [
    (["**", "!util/docker/web"], "util/docker/web/foo", False),
    (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
    (["**", "!dist/*.whl"], "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", False),
    (["!fileutils.go", "*.go"], "fileutils.go", True),
    (["*.go", "!fileutils.go"], "fileutils.go", False),
    (["docs", "!docs/README.md"], "docs/README.md", False),
    (["docs/", "!docs/README.md"], "docs/README.md", False),
    (["docs/*", "!docs/README.md"], "docs/README.md", False),
    (["docs", "  !docs/README.md  "], "docs/README.md", False),
    (["docs", "!docs/README.md"], "docs/other", True),
    (["*.go"], ".", False),
    ([], "/any/path/there", False),
    (["docs", "config", ""], "config", True),
]

FLAT = [
    ("abc", "abc", True),
    ("*", "abc", True),
    ("*c", "abc", True),
    ("a*", "a", True),
    ("a*", "ab/c", False),
    ("a*/b", "abc/b", True),
    ("a*/b", "a/c/b", False),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True),
    ("ab[b-d]", "abc", True),
    ("ab[e-g]", "abc", False),
    ("ab[^c]", "abc", False),
    ("ab[^b-d]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "ab", False),
    ("a?b", "a☺b", True),
    ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False),
    ("a[^a][^a][^a]b", "a☺b", False),
    ("[a-ζ]*", "α", True),
    ("*[a-ζ]", "A", False),
    ("a?b", "a/b", False),
    ("a*b", "a/b", False),
    ("[\\]a]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-]", "x", True),
    ("[x\\-]", "-", True),
    ("[x\\-]", "z", False),
    ("[\\-x]", "x", True),
    ("[\\-x]", "-", True),
    ("[\\-x]", "a", False),
    ("*x", "xxx", True),
    ("[z-a]", "b", False),
]

BAD = ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a["]


@pytest.mark.parametrize(("pattern", "path", "kept_out"), DEEP)
def test_a_line_fits_a_path_or_a_directory_above_it(pattern: str, path: str, kept_out: bool) -> None:
    assert Ignore([pattern]).ignores(path) == kept_out


@pytest.mark.parametrize(("patterns", "path", "kept_out"), SEVERAL)
def test_the_last_line_that_fits_decides(patterns: list[str], path: str, kept_out: bool) -> None:
    assert Ignore(patterns).ignores(path) == kept_out


@pytest.mark.parametrize(("pattern", "name", "fits"), FLAT)
def test_a_name_fits_as_in_go(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) == fits


@pytest.mark.parametrize("pattern", BAD)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid, match="syntax error in pattern"):
        matches(pattern, "a")
    with pytest.raises(Invalid, match="syntax error in pattern"):
        Ignore([pattern])


def test_an_exclamation_mark_alone_is_refused() -> None:
    with pytest.raises(Invalid, match='illegal exclusion pattern: "!"'):
        Ignore(["!"])


def test_a_file_is_read_without_comments_and_needless_slashes() -> None:
    content = (
        b"\xef\xbb\xbftest1\n/test2\n/a/file/here\n\nlastfile\n# a comment\n! /inverted/abs/path\n! abs\n"
        b"./x//y/\n #z\r\n"
    )
    assert read_ignore(content) == (
        "test1",
        "test2",
        "a/file/here",
        "lastfile",
        "!inverted/abs/path",
        "!abs",
        "x/y",
        "#z",
    )


def test_only_a_directory_that_may_hold_an_exception_is_looked_into() -> None:
    found = Ignore(["*", "!src/*/keep", "!a?c/x", "!deep/**/y"])
    looked = ["src", "src/any", "src/any/more", "other", "abc", "ab", "deep/a/b/c"]
    assert [found.may_hold(path) for path in looked] == [True, True, False, False, True, False, True]
    assert not Ignore(["*"]).may_hold("src")


def test_wildcards_are_seen_unless_escaped() -> None:
    assert [has_wildcards(text) for text in ("a*", "a?", "[a]", "a\\*", "a\\[b", "plain")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert plain("a\\[b\\\\") == "a[b\\"
