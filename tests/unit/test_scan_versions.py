"""The orders of versions, and the scores of CVSS."""

from __future__ import annotations

import itertools

import pytest
from packaging.version import Version

from swarmd.image.scan.core import severity, versions
from swarmd.model.errors import Invalid

DEBIAN = [
    "1.0~~", "1.0~~a", "1.0~", "1.0~rc1-1", "1.0", "1.0-0+b1", "1.0-1~bpo12+1", "1.0-1", "1.0-1+deb12u1",
    "1.0-1.1",
    "1.0-2", "1.0-10", "1.0a-1", "1.0+dfsg-1", "1.0.1-1", "1.2", "1.10", "2024a-0", "1:0.1", "1:0.1-1", "2:0",
]  # fmt: skip
ALPINE = [
    "0.1.0_alpha", "0.1.0_alpha2", "0.1.0_beta", "0.1.0_pre1", "0.1.0_rc1", "0.1.0_rc2-r1",
    "0.1.0", "0.1.0-r1",
    "0.1.0-r10", "0.1.0_git20240101", "0.1.0_p1", "0.1.0_p1-r2", "0.1.0a", "0.1.0b", "0.1.0.1", "0.1.01",
    "0.1.1",
    "0.1.10", "1.0", "1.0.0", "1.2.3", "3.0.12-r4",
]  # fmt: skip
PYTHON = [
    "1.0.dev1", "1.0a1.dev1", "1.0a1", "1.0a2", "1.0b1", "1.0rc1.dev2", "1.0rc1", "1.0", "1.0+abc",
    "1.0+abc.5",
    "1.0+5", "1.0.post1.dev1", "1.0.post1", "1.0-2", "1.0.1", "1.1.dev0", "1.1", "2", "1!0.1",
]  # fmt: skip
SEMVER = ["0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11",
          "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "v1.10.0", "2"]  # fmt: skip


@pytest.mark.parametrize(
    ("order", "ascending"),
    [
        (versions.debian, DEBIAN),
        (versions.alpine, ALPINE),
        (versions.python, PYTHON),
        (versions.semver, SEMVER),
    ],
)
def test_versions_are_in_order(order: object, ascending: list[str]) -> None:
    assert callable(order)
    for one, other in itertools.combinations(ascending, 2):
        assert order(one) < order(other), (one, other)


@pytest.mark.parametrize(
    ("order", "one", "other"),
    [
        (versions.debian, "1.0", "1.0-0"),
        (versions.debian, "0:1.0", "1.0"),
        (versions.debian, "1.01", "1.1"),
        (versions.python, "1.0", "1"),
        (versions.python, "1.0-RC.1", "1rc1"),
        (versions.python, "v1.0.post", "1-0"),
        (versions.python, "1.0+ABC_1", "1.0+abc.1"),
        (versions.semver, "1.0.0+build", "1"),
    ],
)
def test_some_are_written_in_several_ways(order: object, one: str, other: str) -> None:
    assert callable(order)
    assert order(one) == order(other)


def test_pythons_order_is_that_of_packaging() -> None:
    parts = (
        ("", "1!"), ("0", "1.0", "1.0.1", "1.10"), ("", "a", "b2", "-rc1"), ("", ".post", "-3"),
        ("", ".dev", "dev2"), ("", "+x.1"),
    )  # fmt: skip
    numbers = ["".join(chosen) for chosen in itertools.product(*parts)]
    ours = sorted(numbers, key=versions.python)
    assert [Version(one) for one in ours] == sorted(map(Version, numbers))


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (versions.debian, ""),
        (versions.debian, "x:1"),
        (versions.debian, "1:"),
        (versions.alpine, "latest"),
        (versions.alpine, "1_foo"),
        (versions.python, "1.0-x-y"),
        (versions.semver, "one"),
        (versions.semver, "1" * 600),
        (versions.python, "１.0"),
    ],
)
def test_what_is_no_version_is_said_to_be_none(order: object, text: str) -> None:
    assert callable(order)
    with pytest.raises(Invalid):
        order(text)


@pytest.mark.parametrize(
    ("vector", "score"),
    [
        # FIRST's own examples.
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:3.1/AV:P/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/E:P", 6.8),
        ("AV:N/AC:L/Au:N/C:C/I:C/A:C", 10.0),
        ("AV:N/AC:M/Au:N/C:P/I:N/A:N", 4.3),
        ("(AV:L/AC:H/Au:N/C:C/I:C/A:C)", 6.2),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", None),
        ("CVSS:3.1/AV:N", None),
        ("CVSS:3.1/AV:Q/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", None),
        ("", None),
    ],
)
def test_a_vectors_base_score(vector: str, score: float | None) -> None:
    assert severity.score_of_vector(vector) == score


def test_scores_and_words_have_levels() -> None:
    assert [severity.level_of_score(score) for score in (0, 0.1, 3.9, 4.0, 6.9, 7.0, 8.9, 9.0, 10)] == [
        "none", "low", "low", "medium", "medium", "high", "high", "critical", "critical",
    ]  # fmt: skip
    assert severity.level_of_word("MODERATE") == "medium"
    assert severity.level_of_word("not yet assigned") == "unknown"
    assert severity.worse("unknown", "none") == "none"
