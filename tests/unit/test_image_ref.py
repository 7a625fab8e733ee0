"""How image references are read and written."""

from __future__ import annotations

import pytest

from swarmd.model.errors import Invalid
from swarmd.model.image_ref import ImageRef, is_digest, parse

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.12", "docker.io/library/nginx:1.12", "nginx:1.12"),
        ("library/nginx:1.12", "docker.io/library/nginx:1.12", "nginx:1.12"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("docker.io/user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("reg:5000/a/b", "reg:5000/a/b:latest", "reg:5000/a/b:latest"),
        ("reg:5000/a/b:tag", "reg:5000/a/b:tag", "reg:5000/a/b:tag"),
        ("[fd00::1]:5000/app:1", "[fd00::1]:5000/app:1", "[fd00::1]:5000/app:1"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", f"nginx@{DIGEST}"),
        (f"reg:5000/a:tag@{DIGEST}", f"reg:5000/a:tag@{DIGEST}", f"reg:5000/a:tag@{DIGEST}"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("a__b--c.d", "docker.io/library/a__b--c.d:latest", "a__b--c.d:latest"),
    ],
)
def test_a_reference_is_completed_and_shortened(text: str, full: str, familiar: str) -> None:
    ref = parse(text)
    assert str(ref) == full
    assert ref.familiar() == familiar
    assert parse(familiar) == ref
    assert parse(full) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "NoSuch:Image:x",
        "a//b",
        "a/",
        "/a",
        "nginx:",
        "nginx:-x",
        "ngi nx",
        "nginx@sha256:12",
        "a_-b",
        "nginx@",
        f"nginx@{DIGEST.upper()}",
        "nginx:" + "t" * 129,
        "nginx:1.12\n",
        "-a/b",
    ],
)
def test_a_bad_reference_is_refused_in_dockers_words(text: str) -> None:
    with pytest.raises(Invalid, match="invalid reference format"):
        parse(text)


def test_capitals_in_a_repository_are_named() -> None:
    with pytest.raises(Invalid, match=r"repository name \(library/Nginx\) must be lowercase"):
        parse("Nginx:1")


def test_a_bare_hexadecimal_id_is_no_name() -> None:
    with pytest.raises(Invalid, match="cannot specify 64-byte hexadecimal strings"):
        parse("ab" * 32)


def test_a_name_may_have_255_characters_and_no_more() -> None:
    name = "reg.example/" + "a" * 243
    assert parse(name).name == name
    with pytest.raises(Invalid, match="255"):
        parse(name + "a")


def test_pinning_keeps_name_and_tag() -> None:
    assert parse("nginx:1.12").pinned(DIGEST) == ImageRef("docker.io/library/nginx", "1.12", DIGEST)


def test_only_a_complete_digest_is_one() -> None:
    assert is_digest(DIGEST)
    assert not is_digest(DIGEST[:-1])
    assert not is_digest("nginx")
