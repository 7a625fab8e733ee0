"""Which advisories are about what is installed, and how an inventory is written down."""

from __future__ import annotations

import json
import re

import pytest

from swarmd.image.scan.core import cyclonedx, databases, osv
from swarmd.image.scan.core.osv import Finding, Matcher
from swarmd.image.scan.core.packages import (
    Distribution,
    Inventory,
    Package,
    purl,
    python_name,
    read_os_release,
)

BOOKWORM = Distribution("debian", "12", "bookworm")
OPENSSL = Package(
    "deb", "libssl3", "3.0.11-1~deb12u2", "openssl", "3.0.11-1~deb12u2", "amd64", "var/lib/dpkg/status"
)
FLASK = Package("pypi", "Flask", "2.0.0", path="usr/lib/python3/dist-packages/Flask-2.0.0.dist-info/METADATA")
MUSL = Package("apk", "musl", "1.2.4-r2", "musl", "1.2.4-r2", "x86_64", "lib/apk/db/installed")


def found(
    *advisories: dict[str, object] | bytes,
    packages: tuple[Package, ...] = (OPENSSL, FLASK),
    about: Distribution = BOOKWORM,
) -> list[Finding]:
    matcher = Matcher(Inventory(about, packages))
    for one in advisories:
        matcher.feed(one if isinstance(one, bytes) else json.dumps(one).encode())
    return matcher.findings()


def advisory(
    name: str = "openssl", ecosystem: str = "Debian:12", *events: dict[str, str], **fields: object
) -> dict[str, object]:
    range_ = {
        "type": "ECOSYSTEM",
        "events": list(events or ({"introduced": "0"}, {"fixed": "3.0.11-1~deb12u3"})),
    }
    affected = {"package": {"name": name, "ecosystem": ecosystem}, "ranges": [range_]}
    return {"id": "DSA-1", "affected": [affected], **fields}


def test_a_distributions_advisory_is_about_the_source_package_of_its_release() -> None:
    [one] = found(advisory())
    assert (one.id, one.package, one.fixed) == ("DSA-1", OPENSSL, "3.0.11-1~deb12u3")
    assert found(advisory(ecosystem="Debian:11")) == []
    assert found(advisory(ecosystem="Debian")) != []
    assert found(advisory(ecosystem="Debian:11"), about=Distribution("debian")) != [], "release not known"
    assert found(advisory("libssl3")) == [], "advisories name what it is built from"
    assert found(advisory(ecosystem="Alpine:v3.18")) == []


def test_alpines_release_is_its_branch() -> None:
    alpine = Distribution("alpine", "3.18.4")
    events = ({"introduced": "0"}, {"fixed": "1.2.4-r3"})
    assert found(advisory("musl", "Alpine:v3.18", *events), packages=(MUSL,), about=alpine)
    assert not found(advisory("musl", "Alpine:v3.19", *events), packages=(MUSL,), about=alpine)


@pytest.mark.parametrize("name", ["flask", "Flask", "FLASK"])
def test_python_names_are_compared_as_indexes_do(name: str) -> None:
    [one] = found(advisory(name, "PyPI", {"introduced": "0"}, {"fixed": "2.2.5"}))
    assert one.package is FLASK


@pytest.mark.parametrize(
    ("events", "hit"),
    [
        ([{"introduced": "0"}], True),
        ([{"introduced": "2.0.0"}], True),
        ([{"introduced": "2.0.1"}], False),
        ([{"introduced": "0"}, {"fixed": "2.0.0"}], False),
        ([{"introduced": "0"}, {"last_affected": "2.0.0"}], True),
        ([{"introduced": "0"}, {"last_affected": "1.9"}], False),
        ([{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.5"}, {"fixed": "2.1"}], True),
        ([{"fixed": "2.1"}, {"introduced": "1.5"}, {"fixed": "1.0"}, {"introduced": "0"}], True),
        ([{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.1"}], False),
        ([{"introduced": "0"}, {"limit": "2.0.0"}], False),
        ([{"introduced": "0"}, {"limit": "*"}], True),
        ([{"introduced": "3.0"}, {"introduced": "0"}, {"fixed": "2.0.0.dev1"}], False),
    ],
)
def test_events_switch_a_range_on_and_off_in_the_order_of_versions(
    events: list[dict[str, str]], hit: bool
) -> None:
    assert bool(found(advisory("flask", "PyPI", *events))) is hit


def test_versions_may_be_listed_and_git_ranges_say_nothing() -> None:
    package = {"name": "flask", "ecosystem": "PyPI"}
    listed = {"id": "X-1", "affected": [{"package": package, "versions": ["1.9", "2.0.0"]}]}
    git = {"type": "GIT", "events": [{"introduced": "0"}]}
    assert found(listed)
    assert not found({"id": "X-1", "affected": [{"package": package, "ranges": [git], "versions": ["1.9"]}]})


def test_a_withdrawn_advisory_counts_no_more() -> None:
    assert found(advisory(withdrawn="2024-01-01T00:00:00Z")) == []


def test_one_weakness_is_one_finding_whatever_it_is_called() -> None:
    vector = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
    events = ({"introduced": "0"}, {"fixed": "2.2.5"})
    [one] = found(
        advisory("flask", "PyPI", *events, id="PYSEC-1", aliases=["CVE-1"]),
        advisory("flask", "PyPI", *events, id="GHSA-1", aliases=["CVE-1", "PYSEC-1"],
                 severity=[{"type": "CVSS_V3", "score": vector}]),
    )  # fmt: skip
    assert (one.id, one.aliases, one.level, one.score) == ("PYSEC-1", ("CVE-1", "GHSA-1"), "critical", 9.8)
    assert len(found(advisory(id="A"), advisory(id="B"))) == 2


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({"database_specific": {"severity": "MODERATE"}}, "medium"),
        ({"severity": [{"type": "Ubuntu", "score": "high"}]}, "high"),
        ({"severity": [{"type": "CVSS_V2", "score": "AV:N/AC:M/Au:N/C:P/I:N/A:N"}]}, "medium"),
        ({"severity": [{"type": "CVSS_V3", "score": "nonsense"}]}, "unknown"),
        ({"database_specific": ["strange"]}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_how_bad_it_is_comes_from_a_vector_or_a_word(fields: dict[str, object], level: str) -> None:
    [one] = found(advisory(**fields))  # type: ignore[arg-type]
    assert one.level == level
    assert osv.counts([one, one]) == {level: 2}


def test_the_worst_is_first_and_what_nobody_rated_stands_with_medium() -> None:
    def rated(name: str, word: str) -> dict[str, object]:
        return advisory(id=name, database_specific={"severity": word})

    names = [
        one.id for one in found(*(rated(word, word) for word in ("low", "?", "medium", "critical", "high")))
    ]
    assert names == ["critical", "high", "medium", "?", "low"]


def test_what_cannot_be_read_is_counted() -> None:
    matcher = Matcher(Inventory(BOOKWORM, (OPENSSL,)))
    bad = advisory("openssl", "Debian:12", {"introduced": "not:a:version"})
    for raw in (b"", b"[]", b"{", b"[" * 100_000, json.dumps(bad).encode(), b'{"affected": 3}'):
        matcher.feed(raw)
    matcher.feed(json.dumps(advisory()).encode())
    assert (matcher.count, matcher.unreadable, len(matcher.findings())) == (7, 6, 1)


# -- what is installed ---------------------------------------------------------------------------


def test_which_files_say_what_is_installed() -> None:
    kinds = {
        "var/lib/dpkg/status": "deb",
        "var/lib/dpkg/status.d/libc6": "deb",
        "var/lib/dpkg/status.d/libc6.md5sums": "",
        "srv/root/var/lib/dpkg/status": "",
        "lib/apk/db/installed": "apk",
        "etc/os-release": "os-release",
        "opt/venv/lib/python3.11/site-packages/flask-2.dist-info/METADATA": "pypi",
        "usr/lib/python3/dist-packages/six-1.egg-info": "pypi",
        "usr/lib/python3/dist-packages/six-1.egg-info/PKG-INFO": "pypi",
        "usr/share/doc/METADATA": "",
    }
    assert {path: databases.kind_of(path) for path in kinds} == kinds


def test_dpkgs_database() -> None:
    text = """Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl (3.0.11-1)
Version: 3.0.11-1+b1
Description: text
 Package: not a field
 .

Package: gone
Status: deinstall ok config-files
Version: 1

Package: base-files
Status: install ok installed
Version: 12.4

Package: without a version
Status: install ok installed
"""
    ssl, base = databases.read("deb", "var/lib/dpkg/status", text)
    assert (ssl.name, ssl.version, ssl.source, ssl.source_version) == (
        "libssl3",
        "3.0.11-1+b1",
        "openssl",
        "3.0.11-1",
    )
    assert (base.source, base.source_version) == ("base-files", "12.4")
    assert databases.read("deb", "status.d/x", "Package: tzdata\nVersion: 2024a-0\n")[0].name == "tzdata"


def test_apks_database() -> None:
    text = "C:Q1x\nP:libcrypto3\nV:3.1.4-r1\nA:x86_64\no:openssl\nF:lib\nR:x\n\nP:musl\nV:1.2.4-r2\n"
    crypto, musl = databases.read("apk", "lib/apk/db/installed", text)
    assert (crypto.name, crypto.version, crypto.source, crypto.arch) == (
        "libcrypto3",
        "3.1.4-r1",
        "openssl",
        "x86_64",
    )
    assert musl.source == "musl"


def test_pythons_metadata_is_its_header() -> None:
    text = "Metadata-Version: 2.1\r\nName: Flask_Login\r\nVersion: 0.6\r\n\r\nName: other\r\nVersion: 9\r\n"
    [one] = databases.read("pypi", "x.dist-info/METADATA", text)
    assert (one.name, one.version) == ("Flask_Login", "0.6")
    assert python_name(one.name) == "flask-login"
    assert databases.read("pypi", "x.egg-info", "Summary: nothing\n") == []


def test_the_distribution() -> None:
    text = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n# ID=no\nNAME="a \\"b\\""\n'
    assert read_os_release(text) == BOOKWORM
    assert read_os_release("") == Distribution()


@pytest.mark.parametrize(
    ("package", "url"),
    [
        (OPENSSL, "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12"),
        (FLASK, "pkg:pypi/flask@2.0.0"),
        (Package("deb", "libstdc++6", "1:2+b1"), "pkg:deb/debian/libstdc%2B%2B6@1%3A2%2Bb1?distro=debian-12"),
    ],
)
def test_package_urls(package: Package, url: str) -> None:
    assert purl(package, BOOKWORM) == url


def test_a_cyclonedx_document_names_each_package_once() -> None:
    twice = Package("pypi", "Flask", "2.0.0", path="opt/venv/Flask.dist-info/METADATA")
    inventory = Inventory(BOOKWORM, (OPENSSL, FLASK, twice))
    raw = cyclonedx.write(inventory, image="reg/app", digest="sha256:" + "a" * 64, at=1_800_000_000.5)
    assert raw == cyclonedx.write(inventory, image="reg/app", digest="sha256:" + "a" * 64, at=1_800_000_000.5)
    document = json.loads(raw)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        document["serialNumber"],
    )
    assert document["metadata"]["timestamp"] == "2027-01-15T08:00:00Z"
    refs = [one["bom-ref"] for one in document["components"]]
    assert len(refs) == len(set(refs)) == 4
    assert document["dependencies"][0]["dependsOn"] == refs
    assert {one["name"] for one in document["components"]} == {"debian", "libssl3", "Flask"}
