"""Which advisories (OSV, https://ossf.github.io/osv-schema) are about what is installed.  Pure.

    inventory ──► index: (ecosystem, name) ──► packages
    advisory ──► affected ──► looked up there ──► its versions and ranges ──► findings, one for all aliases

An advisory that cannot be read is counted, not fatal: a database of a hundred thousand has some.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from swarmd.image.scan.core import severity, versions
from swarmd.image.scan.core.packages import APK, DEB, PYTHON, Distribution, Inventory, Package, python_name
from swarmd.image.trust.core.policy import LEVELS, UNKNOWN
from swarmd.model.errors import Invalid

MOST = 8 << 20
"""Bytes of one advisory."""


class _Event(msgspec.Struct, frozen=True):
    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None


class _Range(msgspec.Struct, frozen=True):
    type: str
    events: tuple[_Event, ...] = ()


class _Severity(msgspec.Struct, frozen=True):
    type: str
    score: str


class _Named(msgspec.Struct, frozen=True):
    name: str
    ecosystem: str


class _Affected(msgspec.Struct, frozen=True):
    package: _Named | None = None
    ranges: tuple[_Range, ...] | None = None
    versions: tuple[str, ...] | None = None
    severity: tuple[_Severity, ...] | None = None
    ecosystem_specific: msgspec.Raw = msgspec.Raw(b"null")


class _Head(msgspec.Struct, frozen=True):
    """What is read of every advisory: the rest only of those about something installed."""

    affected: tuple[_About, ...] | None = None
    withdrawn: str | None = None


class _About(msgspec.Struct, frozen=True):
    package: _Named | None = None


class _Advisory(msgspec.Struct, frozen=True):
    id: str
    affected: tuple[_Affected, ...] = ()
    aliases: tuple[str, ...] | None = None
    upstream: tuple[str, ...] | None = None
    related: tuple[str, ...] | None = None
    withdrawn: str | None = None
    summary: str | None = None
    severity: tuple[_Severity, ...] | None = None
    database_specific: msgspec.Raw = msgspec.Raw(b"null")


class Finding(msgspec.Struct, frozen=True):
    """An advisory about a package.  ``fixed``: the first good version, "" for none; ``score`` 0: unknown."""

    id: str
    package: Package
    aliases: tuple[str, ...] = ()
    level: str = UNKNOWN
    score: float = 0.0
    fixed: str = ""
    summary: str = ""


class Matcher:
    """Fed with advisories; remembers only what is found."""

    def __init__(self, inventory: Inventory) -> None:
        self._release = _releases(inventory.distribution)
        self._index: dict[tuple[str, str], list[Package]] = {}
        for package in inventory.packages:
            for key in _keys(package, inventory.distribution):
                self._index.setdefault(key, []).append(package)
        self._findings: list[Finding] = []
        self._head = msgspec.json.Decoder(_Head)
        self._whole = msgspec.json.Decoder(_Advisory)
        self.count = 0
        self.unreadable = 0

    def feed(self, raw: bytes) -> None:
        """One advisory, as JSON."""
        self.count += 1
        try:
            if len(raw) > MOST:
                raise Invalid("too long")
            head = self._head.decode(raw)
            if head.withdrawn or not any(self._about(one.package) for one in head.affected or ()):
                return
            self._take(self._whole.decode(raw))
        except (msgspec.MsgspecError, Invalid, RecursionError):
            self.unreadable += 1

    def findings(self) -> list[Finding]:
        """The worst first; one for all names that an advisory goes by."""
        found = _merged(self._findings)
        order = {level: at for at, level in enumerate((UNKNOWN, *LEVELS))}
        order[UNKNOWN] = order["medium"] - 0.5  # type: ignore[assignment]
        return sorted(
            found, key=lambda one: (-order[one.level], -one.score, one.package.name, one.id, one.package.path)
        )

    def _about(self, named: _Named | None) -> list[Package]:
        if named is None:
            return []
        ecosystem, _, release = named.ecosystem.partition(":")
        if release and ecosystem in self._release and release not in self._release[ecosystem]:
            return []
        name = python_name(named.name) if ecosystem == "PyPI" else named.name
        return self._index.get((ecosystem, name), [])

    def _take(self, advisory: _Advisory) -> None:
        names = {*(advisory.aliases or ()), *(advisory.upstream or ())}
        for affected in advisory.affected:
            for package in self._about(affected.package):
                assert affected.package is not None
                ecosystem = affected.package.ecosystem.partition(":")[0]
                is_hit, fixed = _hit(affected, ecosystem, package)
                if is_hit:
                    level, score = _rated(advisory, affected)
                    self._findings.append(
                        Finding(
                            id=advisory.id,
                            package=package,
                            aliases=tuple(sorted(names)),
                            level=level,
                            score=score,
                            fixed=fixed,
                            summary=(advisory.summary or "")[:300],
                        )
                    )


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Findings by level; levels without one are left out."""
    found: dict[str, int] = {}
    for one in findings:
        found[one.level] = found.get(one.level, 0) + 1
    return found


def _keys(package: Package, distribution: Distribution) -> list[tuple[str, str]]:
    """Under which ecosystem and name advisories speak of it: distributions by what it was built from."""
    if package.kind == PYTHON:
        return [("PyPI", python_name(package.name))]
    if package.kind == APK:
        return [("Alpine", package.source)]
    ecosystem = "Ubuntu" if distribution.id == "ubuntu" else "Debian"
    return [(ecosystem, package.source)]


def _releases(distribution: Distribution) -> dict[str, set[str]]:
    """How advisories name this release of a distribution.  Of one that is not known all are looked at."""
    version = distribution.version
    if distribution.id == "alpine" and version:
        return {"Alpine": {"v" + ".".join(version.split(".")[:2])}}
    if distribution.id == "debian" and version:
        return {"Debian": {version, version.partition(".")[0]}}
    if distribution.id == "ubuntu" and version:
        names = (version, f"{version}:LTS", f"Pro:{version}:LTS")
        return {"Ubuntu": set(names)}
    return {}


def _hit(affected: _Affected, ecosystem: str, package: Package) -> tuple[bool, str]:
    """Whether the package's version is affected, and the version that is not any more."""
    version = package.source_version if package.kind in (DEB, APK) else package.version
    key = versions.key_for(ecosystem)
    ranges = [one for one in affected.ranges or () if one.type in ("ECOSYSTEM", "SEMVER")]
    fixed = ""
    inside = False
    for one in ranges:
        order = key if one.type == "ECOSYSTEM" else versions.semver
        hit, by = _inside(one, version, order)
        inside, fixed = inside or hit, fixed or by
    return inside or version in (affected.versions or ()), fixed


def _inside(one: _Range, version: str, order: Callable[[str], Any]) -> tuple[bool, str]:
    """The schema's own way: events in the order of their versions switch it on and off.

    Raises Invalid for a version that has no place in that order.
    """
    at = order(version)
    limits = [each.limit for each in one.events if each.limit not in (None, "*")]
    if limits and all(at >= order(limit) for limit in limits if limit):
        return False, ""
    inside, fixed = False, ""
    for kind, bound in sorted(_bounds(one), key=functools.cmp_to_key(_by_version(order))):
        begins = bound == "0" or at >= order(bound)
        if kind == "introduced" and begins:
            inside, fixed = True, ""
        elif (kind == "fixed" and begins) or (kind == "last_affected" and at > order(bound)):
            inside = False
        elif kind == "fixed" and inside and not fixed:
            fixed = bound
    return inside, fixed if inside else ""


def _bounds(one: _Range) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for event in one.events:
        for kind in ("introduced", "fixed", "last_affected"):
            bound = getattr(event, kind)
            if bound is not None:
                found.append((kind, bound))
    return found


def _by_version(order: Callable[[str], Any]) -> Callable[[tuple[str, str], tuple[str, str]], int]:
    rank = {"introduced": 0, "last_affected": 1, "fixed": 2}

    def compare(one: tuple[str, str], other: tuple[str, str]) -> int:
        if (one[1] == "0") != (other[1] == "0"):
            return -1 if one[1] == "0" else 1
        if one[1] != other[1]:
            a, b = order(one[1]), order(other[1])
            if a != b:
                return -1 if a < b else 1
        return rank[one[0]] - rank[other[0]]

    return compare


def _rated(advisory: _Advisory, affected: _Affected) -> tuple[str, float]:
    """Level and score: of the worst vector, else of what the database says in a word."""
    vectors = [*(affected.severity or ()), *(advisory.severity or ())]
    scores = [severity.score_of_vector(one.score) for one in vectors]
    known = [score for score in scores if score is not None]
    if known:
        return severity.level_of_score(max(known)), max(known)
    words = [one.score for one in vectors if one.type not in ("CVSS_V2", "CVSS_V3", "CVSS_V4")]
    words += [_word(advisory.database_specific, "severity"), _word(affected.ecosystem_specific, "severity")]
    words += [_word(affected.ecosystem_specific, "urgency")]
    return functools.reduce(severity.worse, map(severity.level_of_word, words), UNKNOWN), 0.0


def _word(raw: msgspec.Raw, field: str) -> str:
    try:
        found = msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return ""
    value = found.get(field, "") if isinstance(found, dict) else ""
    return value if isinstance(value, str) else ""


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """Advisories about one package that share a name are one finding."""
    of: dict[Package, list[Finding]] = {}
    for one in findings:
        held = of.setdefault(one.package, [])
        same = [other for other in held if _names(other) & _names(one)]
        for other in same:
            held.remove(other)
        held.append(functools.reduce(_joined, [*same, one]))
    return [one for held in of.values() for one in held]


def _names(one: Finding) -> set[str]:
    return {one.id, *one.aliases}


def _joined(one: Finding, other: Finding) -> Finding:
    rated = max((one, other), key=lambda each: (each.level != UNKNOWN, each.score))
    return Finding(
        id=one.id,
        package=one.package,
        aliases=tuple(sorted((_names(one) | _names(other)) - {one.id})),
        level=severity.worse(one.level, other.level),
        score=rated.score,
        fixed=one.fixed or other.fixed,
        summary=one.summary or other.summary,
    )
