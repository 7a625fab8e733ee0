"""Which of two versions is older, in the order they are made for: dpkg, apk, PEP 440, SemVer.  Pure.

Each function makes a key that compares as the versions do.  Raises Invalid for what is no version there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from swarmd.model.errors import Invalid

Key = Any

_SEMVER = re.compile(
    r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:\.\d+)*(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII
)
_PYTHON = re.compile(
    r"""v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)
    (?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_n>\d*))?
    (?P<post>-(?P<post_1>\d+)|[-_.]?(?:post|rev|r)[-_.]?(?P<post_2>\d*))?
    (?P<dev>[-_.]?dev[-_.]?(?P<dev_n>\d*))?
    (?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_PRE = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_APK = re.compile(
    r"(?P<digits>\d+(?:\.\d+)*)(?P<letter>[a-z])?"
    r"(?P<suffixes>(?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)\d*)*)(?:~[0-9a-f]+)?(?:-r(?P<revision>\d+))?",
    re.ASCII,
)
_APK_SUFFIX = {"alpha": -4, "beta": -3, "pre": -2, "rc": -1, "cvs": 1, "svn": 2, "git": 3, "hg": 4, "p": 5}
_LONGEST = 512


def key_for(ecosystem: str) -> Callable[[str], Key]:
    """The order of an ecosystem as OSV names it, without its release: ``Debian``, ``Alpine``, ``PyPI``."""
    return _ORDERS.get(ecosystem, semver)


def debian(text: str) -> Key:
    """``epoch:upstream-revision`` (deb-version(7))."""
    _check(text)
    epoch, colon, rest = text.strip().partition(":")
    if not colon:
        epoch, rest = "0", text.strip()
    if not epoch.isdecimal() or not rest:
        raise Invalid(f'"{text}" is no Debian version')
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    return int(epoch), _parts(upstream), _parts(revision)


def _parts(text: str) -> list[tuple[list[int], int]]:
    """Runs of other characters, each with the number after it; the end comes after ``~`` only."""
    found: list[tuple[list[int], int]] = []
    for words, number in re.findall(r"(\D*)(\d*)", text):
        if words or number:
            found.append(([*(_rank(one) for one in words), 0], int(number or 0)))
    return [*found, ([0], 0)]


def _rank(letter: str) -> int:
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256


def alpine(text: str) -> Key:
    """``1.2.3a_rc1-r4`` as apk-tools compare them."""
    _check(text)
    found = _APK.fullmatch(text.strip())
    if found is None:
        raise Invalid(f'"{text}" is no Alpine version')
    first, *others = found["digits"].split(".")
    # After the first, a number that begins with 0 is compared as a fraction is.
    rest = ((0, 0, one) if one.startswith("0") else (1, int(one), "") for one in others)
    digits = [(1, int(first), ""), *rest]
    suffixes = [
        (_APK_SUFFIX[name], int(number or 0))
        for name, number in re.findall(r"_([a-z]+)(\d*)", found["suffixes"])
    ]
    letter = ord(found["letter"]) if found["letter"] else 0
    return digits, letter, [*suffixes, (0, 0)], int(found["revision"] or 0)


def python(text: str) -> Key:
    """PEP 440."""
    _check(text)
    found = _PYTHON.fullmatch(text.strip())
    if found is None:
        raise Invalid(f'"{text}" is no Python version')
    release = [int(one) for one in found["release"].split(".")]
    while release and release[-1] == 0:
        release.pop()
    is_pre, is_post, is_dev = (found[one] is not None for one in ("pre", "post", "dev"))
    pre: tuple[int, int] = (3, 0)
    if is_pre:
        pre = (_PRE[found["pre"].lower()], int(found["pre_n"] or 0))
    elif is_dev and not is_post:
        pre = (-1, 0)  # 1.0.dev1 comes before 1.0a1
    post = int(found["post_1"] or found["post_2"] or 0) if is_post else -1
    dev = (0, int(found["dev_n"] or 0)) if is_dev else (1, 0)
    return int(found["epoch"] or 0), release, pre, post, dev, _local(found["local"])


def _local(text: str | None) -> list[tuple[int, int, str]]:
    parts = re.split(r"[-_.]", text.lower()) if text else []
    return [(1, int(one), "") if one.isdecimal() else (0, 0, one) for one in parts]


def semver(text: str) -> Key:
    """Semantic Versioning 2; ``1.2`` is ``1.2.0``."""
    _check(text)
    found = _SEMVER.fullmatch(text.strip())
    if found is None:
        raise Invalid(f'"{text}" is no semantic version')
    numbers = [int(found[group] or 0) for group in (1, 2, 3)]
    if found[4] is None:
        return numbers, 1, []
    words = [(0, int(one), "") if one.isdecimal() else (1, 0, one) for one in found[4].split(".")]
    return numbers, 0, words


def _check(text: str) -> None:
    if not text or len(text) > _LONGEST or not text.isascii():
        raise Invalid(f'"{text[:80]}" is no version')


_ORDERS: dict[str, Callable[[str], Key]] = {
    "Debian": functools.lru_cache(4096)(debian),
    "Ubuntu": functools.lru_cache(4096)(debian),
    "Alpine": functools.lru_cache(4096)(alpine),
    "PyPI": functools.lru_cache(4096)(python),
}
