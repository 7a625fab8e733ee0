"""May this image run?  The rule for its name, and the evidence there is, say so.  Pure.

name ──► rule ──► accept, or nobody says anything: yes
             ──► reject: no
             ──► require: enough of the rule's keys signed this digest under this name, and its scan is good
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from swarmd.image.trust.core import patterns, simple_signing
from swarmd.image.trust.core.artifact import Signature
from swarmd.model.errors import Invalid
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import ImageScan, TrustKey, TrustRule
from swarmd.security import verifying

LEVELS = ("none", "low", "medium", "high", "critical")
"""Of findings, the harmless first."""

UNKNOWN = "unknown"
"""The level of a finding that nobody rated; it counts as medium."""


class Policy(msgspec.Struct, frozen=True):
    """What images must be: the swarm's rules, and the keys they name."""

    rules: tuple[TrustRule, ...] = ()
    keys: tuple[TrustKey, ...] = ()


class Evidence(msgspec.Struct, frozen=True):
    """What is known of an image.  ``names``: complete repositories that are known to hold its digest."""

    signatures: tuple[Signature, ...] = ()
    scan: ImageScan | None = None
    names: tuple[str, ...] = ()


class Signed(msgspec.Struct, frozen=True):
    """Which keys signed, and why other signatures do not count."""

    by: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """``why`` is empty when the image may run.  ``rule``: the pattern that decided, "" for none."""

    rule: str = ""
    action: str = "accept"
    signed_by: tuple[str, ...] = ()
    why: str = ""

    @property
    def is_good(self) -> bool:
        return not self.why

    def sentence(self, image: str) -> str:
        """The refusal."""
        return f'image {image} is refused by the trust rule "{self.rule}": {self.why}'


def needs_evidence(policy: Policy, ref: ImageRef) -> bool:
    """Whether signatures or a scan have to be looked at to judge an image."""
    rule = patterns.rule_for(policy.rules, ref.name)
    return rule is not None and rule.action == "require"


def judge(policy: Policy, ref: ImageRef, evidence: Evidence, now: float) -> Verdict:
    """May the image ``ref`` (name and digest) run now?"""
    rule = patterns.rule_for(policy.rules, ref.name)
    if rule is None or rule.action == "accept":
        return Verdict(rule=rule.id if rule else "")
    if rule.action == "reject":
        return Verdict(rule.id, rule.action, why="no image of that name may run")
    if not ref.digest:
        why = "only a digest can be checked, and this name leads to none here; name it with @sha256:…"
        return Verdict(rule.id, rule.action, why=why)
    keys = [key for key in policy.keys if key.id in rule.keys]
    signed = signers(ref, evidence.signatures, keys, now)
    why = _unsigned(rule, signed) or _unscanned(rule, evidence.scan, now)
    return Verdict(rule.id, rule.action, signed.by, why)


def known_as(ref: ImageRef, other: ImageRef, verdict: Verdict) -> Verdict:
    """The refusal of ``ref`` for what its digest is called elsewhere."""
    name = f"as {other.familiar_name()}" if other.name else "without a name"
    why = f"{ref.familiar_name()} is not known to hold this digest, which is here {name}: {verdict.why}"
    return Verdict(verdict.rule, verdict.action, why=why)


def signers(ref: ImageRef, signatures: Iterable[Signature], keys: Sequence[TrustKey], now: float) -> Signed:
    """Which of ``keys`` signed ``ref.digest`` under the name ``ref.name``."""
    by: set[str] = set()
    problems: list[str] = []
    for one in signatures:
        try:
            claim = simple_signing.read_payload(one.payload)
        except Invalid as error:
            problems.append(str(error))
            continue
        names, expired = _keys_of(one, keys, now)
        problems += expired
        if names and claim.digest != ref.digest:
            problems.append(f"the signature by {', '.join(names)} is for another image, {claim.digest}")
        elif names and patterns.canonical(claim.name) != patterns.canonical(ref.name):
            problems.append(f"the signature by {', '.join(names)} is for the name {claim.name}")
        else:
            by.update(names)
    return Signed(tuple(sorted(by)), tuple(dict.fromkeys(problems)))


def exceeds(counts: dict[str, int], level: str) -> dict[str, int]:
    """Of findings by level those that are worse than ``level``, the worst first."""
    most = LEVELS.index(level)
    return {one: counts[one] for one in reversed(LEVELS[most + 1 :]) if counts.get(one)} | (
        {UNKNOWN: counts[UNKNOWN]} if counts.get(UNKNOWN) and most < LEVELS.index("medium") else {}
    )


def _keys_of(one: Signature, keys: Sequence[TrustKey], now: float) -> tuple[list[str], list[str]]:
    """Names of the keys that this signature is by, and sentences of certificates that do not count."""
    names: list[str] = []
    problems: list[str] = []
    for key in keys:
        try:
            if _is_by(one, key, now):
                names.append(key.id)
        except Invalid as error:
            problems.append(f"{key.id}: {error}")
    return names, problems


def _is_by(one: Signature, key: TrustKey, now: float) -> bool:
    if not verifying.is_certificate(key.pem):
        return verifying.is_signed_by(verifying.public_key(key.pem), one.payload, one.signature)
    trusted = verifying.certificates(key.pem)[0]
    leaf = verifying.certificates(one.certificate)[:1] if one.certificate else [trusted]
    signer = verifying.public_key(one.certificate or key.pem)
    if not leaf or not verifying.is_signed_by(signer, one.payload, one.signature):
        return False
    verifying.check_chain(trusted, leaf[0], verifying.certificates(one.chain) if one.chain else [], now)
    return True


def _unsigned(rule: TrustRule, signed: Signed) -> str:
    if not rule.keys or len(signed.by) >= rule.threshold:
        return ""
    of = ", ".join(rule.keys)
    if rule.threshold == 1:
        wanted = f"it must be signed by {'one of ' if len(rule.keys) > 1 else ''}{of}"
    else:
        wanted = f"it must be signed by {rule.threshold} of {of}"
    has = f"is signed by {', '.join(signed.by)} only" if signed.by else "has no signature that counts"
    notes = "".join(f"; {problem}" for problem in signed.problems[:3])
    return f"{wanted}, and {has}{notes}"


def _unscanned(rule: TrustRule, scan: ImageScan | None, now: float) -> str:
    if not rule.max_severity and not rule.max_scan_age:
        return ""
    if scan is None:
        return "it must have been scanned, and was not (`swarmctl image scan` does that)"
    age = now - scan.scanned_at
    if rule.max_scan_age and age > rule.max_scan_age:
        most = _span(rule.max_scan_age)
        return f"its last scan was {_span(age)} ago, and may be {most} old at most; scan it again"
    worse = exceeds(scan.counts, rule.max_severity) if rule.max_severity else {}
    if worse:
        found = ", ".join(f"{count} {level}" for level, count in worse.items())
        return f"its scan found {found}, and may find {rule.max_severity} at most"
    return ""


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
