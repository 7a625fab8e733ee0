"""What COPY means: which files, under which names, with which modes; what a context may hold."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from hashlib import sha256

import pytest

from swarmd.image.build.core.context import Told, read_listing
from swarmd.image.build.core.excerpt import excerpt
from swarmd.image.build.core.modes import changed
from swarmd.image.build.core.select import check_destination, choose, content_digest, contents
from swarmd.image.build.core.tree import Item, followed, join
from swarmd.model.errors import Invalid, NotFound


class Made:
    """A tree of texts; a name that ends with @ is a link."""

    def __init__(self, files: Mapping[str, str], mode: int = 0o644) -> None:
        self.items: dict[str, Item] = {"": Item(kind="directory")}
        self.texts: dict[str, str] = {}
        for name, text in files.items():
            path = name.rstrip("@")
            parts = path.split("/")[:-1]
            for depth in range(len(parts)):
                self.items.setdefault("/".join(parts[: depth + 1]), Item(kind="directory"))
            kind = "link" if name.endswith("@") else "file"
            link = text if kind == "link" else ""
            self.items[path] = Item(kind=kind, mode=mode, link=link)  # type: ignore[arg-type]
            self.texts[path] = text

    def look(self, path: str) -> Item | None:
        return self.items.get(path)

    def names(self, path: str) -> Sequence[str]:
        return [each.rpartition("/")[2] for each in self.items if each and each.rpartition("/")[0] == path]

    def digest(self, path: str) -> str:
        return sha256(self.texts[path].encode()).hexdigest()

    def write(self, path: str, fd: int) -> None:
        raise NotImplementedError


TREE = Made(
    {
        "a.py": "a",
        "b.py": "b",
        "lib/one.txt": "1",
        "lib/deep/two.txt": "2",
        "now@": "lib",
        "lib/up@": "../a.py",
    }
)


def names(*sources: str, tree: Made = TREE, parents: bool = False, exclude: Sequence[str] = ()) -> list[str]:
    """Where files and links go below the destination."""
    chosen = choose(tree, sources, parents=parents, where="the build context")
    return sorted(
        join(one.name, inner)
        for one in chosen
        for _, inner, item in contents(tree, one, exclude)
        if item.kind != "directory"
    )


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("a.py",), ["a.py"]),
        (("*.py",), ["a.py", "b.py"]),
        (("lib",), ["deep/two.txt", "one.txt", "up"]),
        (("lib/",), ["deep/two.txt", "one.txt", "up"]),
        (("l*b/*.txt",), ["one.txt"]),
        (("now",), ["deep/two.txt", "one.txt", "up"]),
        (("now/one.txt",), ["one.txt"]),
        (("lib/up",), ["up"]),
        (("../a.py",), ["a.py"]),
        (("*.nothing",), []),
        (("a.py", "lib/deep"), ["a.py", "two.txt"]),
    ],
)
def test_sources_are_found_as_dockerfiles_write_them(sources: tuple[str, ...], expected: list[str]) -> None:
    assert names(*sources) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("lib/deep/two.txt", ["lib/deep/two.txt"]),
        ("lib/./deep/two.txt", ["deep/two.txt"]),
        ("lib/deep", ["lib/deep/two.txt"]),
        ("lib/*.txt", ["lib/one.txt"]),
    ],
)
def test_parents_keep_the_way_to_a_file(source: str, expected: list[str]) -> None:
    assert names(source, parents=True) == expected


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (("*.txt",), ["deep/two.txt", "up"]),
        (("**/*.txt",), ["up"]),
        (("deep",), ["one.txt", "up"]),
        (("*", "!one.txt"), ["one.txt"]),
    ],
)
def test_what_is_excluded_stays_away(exclude: tuple[str, ...], expected: list[str]) -> None:
    assert names("lib", exclude=exclude) == expected


def test_a_plain_source_has_to_be_there() -> None:
    with pytest.raises(NotFound, match=r'"/missing": not found'):
        names("missing")


def test_links_lead_nowhere_out_of_the_tree() -> None:
    tree = Made({"etc/passwd": "inside", "out@": "../../../etc/passwd", "abs@": "/etc/passwd"})
    assert followed(tree, "out") == "etc/passwd"
    assert followed(tree, "abs") == "etc/passwd"


def test_links_in_a_circle_are_refused() -> None:
    with pytest.raises(Invalid, match="too many symbolic links"):
        followed(Made({"a@": "b", "b@": "a"}), "a")


def test_several_sources_need_a_directory() -> None:
    chosen = choose(TREE, ("a.py", "b.py"), parents=False, where="the build context")
    check_destination("/srv/", chosen, parents=False)
    with pytest.raises(Invalid, match="must be a directory"):
        check_destination("/srv", chosen, parents=False)


def digest(tree: Made, *sources: str, exclude: Sequence[str] = ()) -> str:
    chosen = choose(tree, sources, parents=False, where="the build context")
    return content_digest(tree, chosen, exclude, owners=True)


def test_the_digest_is_of_what_is_chosen_only() -> None:
    other = Made({"a.py": "a", "b.py": "changed"})
    assert digest(TREE, "a.py") == digest(other, "a.py")
    assert digest(TREE, "b.py") != digest(other, "b.py")
    assert digest(TREE, "*.py", exclude=["b.py"]) == digest(other, "*.py", exclude=["b.py"])


def test_the_digest_sees_names_modes_and_links() -> None:
    plain = digest(Made({"d/x": "1"}), "d")
    assert plain != digest(Made({"d/y": "1"}), "d")
    assert plain != digest(Made({"d/x": "1"}, mode=0o755), "d")
    assert digest(Made({"d/x@": "1"}), "d") != digest(Made({"d/x@": "2"}), "d")


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("755", 0o600, 0o755),
        ("4755", 0o600, 0o4755),
        ("", 0o640, 0o640),
        ("u=rwX,go=rX", 0o600, 0o644),
        ("u=rwX,go=rX", 0o700, 0o755),
        ("go-rwx", 0o777, 0o700),
        ("a+x", 0o644, 0o755),
        ("+x", 0o644, 0o755),
        ("u+s", 0o755, 0o4755),
        ("g=u", 0o700, 0o770),
        ("+t", 0o755, 0o1755),
    ],
)
def test_modes_are_octal_or_symbolic(text: str, mode: int, expected: int) -> None:
    assert oct(changed(text, mode, is_directory=False)) == oct(expected)


def test_a_directory_counts_as_executable() -> None:
    assert changed("u=rwX,go=rX", 0o600, is_directory=True) == 0o755


def test_a_mode_that_is_none_is_named() -> None:
    with pytest.raises(Invalid, match='invalid chmod parameter: "rw"'):
        changed("rw", 0o644, is_directory=False)


def told(path: str, kind: int = stat.S_IFREG, **fields: object) -> Told:
    digest = "0" * 64 if kind == stat.S_IFREG else ""
    return Told(path=path, mode=kind | 0o644, digest=digest, **fields)  # type: ignore[arg-type]


def test_a_context_is_what_its_list_says() -> None:
    listing = read_listing([told("a/b.txt"), told("c", stat.S_IFLNK, link="a")])
    assert listing.names == {"": ["a", "c"], "a": ["b.txt"]}
    assert listing.items["a"].kind == "directory"
    assert listing.files == {"a/b.txt": (0, "0" * 64)}


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../b", "a//b", "./a", "a\0b", "x" * 300])
def test_names_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(Invalid, match="leads nowhere"):
        read_listing([told(path)])


@pytest.mark.parametrize(
    "entries",
    [
        [told("a", stat.S_IFLNK, link="/etc"), told("a/b")],
        [told("a"), told("a/b")],
        [told("a"), told("a", stat.S_IFDIR)],
        [told("a", stat.S_IFCHR)],
        [told("a", stat.S_IFLNK)],
        [Told(path="a", mode=stat.S_IFREG | 0o644, digest="short")],
        [told("a", size=-1)],
    ],
)
def test_a_list_that_contradicts_itself_is_refused(entries: list[Told]) -> None:
    with pytest.raises(Invalid):
        read_listing(entries)


def test_an_excerpt_marks_the_lines() -> None:
    text = "FROM a\n\nRUN x \\\n  y\nCMD z\n"
    assert excerpt("Dockerfile", text, 3, 4).splitlines() == [
        "Dockerfile:3",
        "--------------------",
        "   1 |     FROM a",
        "   2 |     ",
        "   3 | >>> RUN x \\",
        "   4 | >>>   y",
        "   5 |     CMD z",
        "--------------------",
    ]


def test_an_instruction_of_no_file_has_no_excerpt() -> None:
    assert excerpt("Dockerfile", "FROM a\n", 0, 0) == ""
