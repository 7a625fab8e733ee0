"""The rows of ``image sbom`` and ``image scan``.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmd.cli.listing import Layout, Row
from swarmd.cli.units import rfc3339
from swarmd.cli.views_container import Json, filled

if TYPE_CHECKING:
    from swarmd.rpc.v1 import trust_pb2

PACKAGES = Layout(
    ("Kind", "Name", "Version", "Source"),
    {
        "Kind": "KIND",
        "Name": "NAME",
        "Version": "VERSION",
        "Source": "SOURCE",
        "SourceVersion": "SOURCE VERSION",
        "Architecture": "ARCHITECTURE",
        "Path": "PATH",
        "Purl": "PURL",
    },
    identity="Purl",
)
FINDINGS = Layout(
    ("Severity", "ID", "Package", "Version", "Fixed", "Aliases"),
    {
        "Severity": "SEVERITY",
        "ID": "ADVISORY",
        "Package": "PACKAGE",
        "Version": "VERSION",
        "Fixed": "FIXED IN",
        "Aliases": "ALIASES",
        "Score": "SCORE",
        "Summary": "SUMMARY",
        "Path": "PATH",
        "Kind": "KIND",
    },
)
_ORDER = ("critical", "high", "medium", "unknown", "low", "none")


def package_rows(packages: Iterable[trust_pb2.Package]) -> list[Row]:
    """One row a package, in the order given."""
    return [
        {
            "Kind": one.kind,
            "Name": one.name,
            "Version": one.version,
            "Source": one.source if one.source != one.name else "",
            "SourceVersion": one.source_version,
            "Architecture": one.arch,
            "Path": f"/{one.path}",
            "Purl": one.purl,
        }
        for one in packages
    ]


def finding_rows(findings: Iterable[trust_pb2.Finding]) -> list[Row]:
    """One row a finding, in the order given."""
    return [
        {
            "Severity": one.severity,
            "ID": one.id,
            "Package": one.package,
            "Version": one.version,
            "Fixed": one.fixed,
            "Aliases": ", ".join(one.aliases[:3]) + (", …" if len(one.aliases) > 3 else ""),
            "Score": f"{one.score:.1f}" if one.score else "",
            "Summary": one.summary,
            "Path": f"/{one.path}",
            "Kind": one.kind,
        }
        for one in findings
    ]


def summary(answer: trust_pb2.ReadFindingsResponse) -> str:
    """``web:1 (debian 12): 93 packages, 1000 advisories: 2 critical, 1 low``."""
    system = f" ({answer.distribution})" if answer.distribution else ""
    counts = ", ".join(f"{answer.counts[level]} {level}" for level in _ORDER if level in answer.counts)
    about = f"{answer.packages} packages, {answer.advisories} advisories"
    return f"{answer.name}{system}: {about}: {counts or 'nothing found'}"


def scan_json(answer: trust_pb2.ReadFindingsResponse) -> Json:
    """Everything that was found."""
    return {
        "Image": answer.name,
        "Digest": answer.digest,
        **filled(Distribution=answer.distribution),
        "ScannedAt": rfc3339(answer.scanned_at),
        "Packages": answer.packages,
        "Advisories": answer.advisories,
        "Counts": {level: answer.counts[level] for level in _ORDER if level in answer.counts},
        "Findings": [_finding(one) for one in answer.findings],
    }


def _finding(one: trust_pb2.Finding) -> Json:
    return {
        "ID": one.id,
        **filled(Aliases=list(one.aliases)),
        "Severity": one.severity,
        **filled(Score=round(one.score, 1)),
        "Package": one.package,
        "Kind": one.kind,
        "Version": one.version,
        **filled(Fixed=one.fixed, Summary=one.summary),
        "Path": f"/{one.path}",
    }
