"""Which rule is for an image, and what it asks for: names, keys, certificates, scans."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmd.image.trust.core import patterns, simple_signing
from swarmd.image.trust.core.artifact import Signature
from swarmd.image.trust.core.policy import Evidence, Policy, Verdict, exceeds, judge, needs_evidence
from swarmd.model.errors import Invalid
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import ImageScan, TrustKey, TrustRule
from swarmd.security import signing

NOW = 1_800_000_000.0
DAY = 86400.0
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NAME = "reg.example.com/team/app"
IMAGE = ImageRef(NAME, "1", DIGEST)
PROD, CI, STRANGER = (signing.generate(kind) for kind in ("ecdsa", "ed25519", "ecdsa"))
KEYS = (TrustKey(id="prod", pem=signing.public_pem(PROD)), TrustKey(id="ci", pem=signing.public_pem(CI)))


def signed(key: signing.PrivateKey, *, name: str = NAME, digest: str = DIGEST) -> Signature:
    payload = simple_signing.write_payload(name, digest)
    return Signature(payload, signing.sign(key, payload))


def verdict(rule: TrustRule, *signatures: Signature, scan: ImageScan | None = None) -> Verdict:
    return judge(Policy((rule,), KEYS), IMAGE, Evidence(signatures, scan), NOW)


def require(*keys: str, **fields: object) -> TrustRule:
    return TrustRule(id="reg.example.com/*", keys=keys, **fields)  # type: ignore[arg-type]


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "complete"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("team/*", "docker.io/team/*"),
        ("app*", "docker.io/library/app*"),
        ("*", "*"),
        ("localhost:5000/*", "localhost:5000/*"),
        ("*.example.com/team/app", "*.example.com/team/app"),
        ("docker.io/*", "docker.io/*"),
    ],
)
def test_a_pattern_is_completed_as_names_are(written: str, complete: str) -> None:
    assert patterns.complete(written) == complete
    assert patterns.complete(complete) == complete


@pytest.mark.parametrize(
    "pattern", ["", "a b", "nginx:1", "reg/app@sha256:a", "a//b", "reg.example.com/", "é"]
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid):
        patterns.complete(pattern)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", NAME, True),
        (NAME, NAME, True),
        (NAME, NAME + "2", False),
        ("reg.example.com/*", NAME, True),
        ("reg.example.com/team*", NAME, True),
        ("reg.example.com/other/*", NAME, False),
        ("*.example.com/*", NAME, True),
        ("*.example.com/*", "example.com/app", False),
        ("*/app", NAME, True),
        ("*/ap*p", NAME, True),
        ("reg.example.com/team/app*app", NAME, False),
        ("*a*a*a*a*a*a*b", "reg.example.com/" + "a" * 200, False),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, name: str, fits: bool) -> None:
    assert patterns.matches(pattern, name) is fits


def test_the_longest_rule_decides_and_of_two_alike_the_stricter() -> None:
    rules = [
        TrustRule(id="*", action="reject"),
        TrustRule(id="reg.example.com/*", action="require", keys=("prod",)),
        TrustRule(id="reg.example.com/team/*", action="accept"),
        TrustRule(id="*reg.example.com/team/", action="reject"),
        TrustRule(id="reg.example.com/tea*m/app", action="reject"),
        TrustRule(id="reg.example.com/*team/app", action="require", keys=("prod",)),
    ]

    def decides(name: str, among: list[TrustRule]) -> str:
        rule = patterns.rule_for(among, name)
        return rule.id if rule is not None else ""

    assert decides("docker.io/library/x", rules) == "*"
    assert decides("docker.io/library/x", rules[1:]) == ""
    assert decides("reg.example.com/x", rules) == "reg.example.com/*"
    assert decides("reg.example.com/team/x", rules) == "reg.example.com/team/*"
    assert decides(NAME, rules) == decides(NAME, rules[::-1]) == "reg.example.com/tea*m/app"


# -- keys ----------------------------------------------------------------------------------------


def test_no_rule_accepts_and_reject_rejects() -> None:
    assert judge(Policy(), IMAGE, Evidence(), NOW) == Verdict()
    assert verdict(TrustRule(id="*", action="accept")).is_good
    refused = verdict(TrustRule(id="*", action="reject"), signed(PROD))
    assert refused.sentence("x") == 'image x is refused by the trust rule "*": no image of that name may run'
    assert needs_evidence(Policy((require("prod"),)), IMAGE)
    assert not needs_evidence(Policy((TrustRule(id="*", action="reject"),)), IMAGE)


def test_an_image_without_a_digest_cannot_be_checked() -> None:
    found = judge(Policy((require("prod"),), KEYS), ImageRef(NAME, "1"), Evidence((signed(PROD),)), NOW)
    assert "only a digest can be checked" in found.why


def test_one_of_the_keys_is_enough_unless_the_rule_says_more() -> None:
    assert verdict(require("prod"), signed(PROD)).signed_by == ("prod",)
    assert verdict(require("prod"), signed(PROD)).is_good
    assert verdict(require("prod", "ci"), signed(CI)).is_good
    both = require("prod", "ci", threshold=2)
    assert verdict(both, signed(PROD), signed(CI)).is_good
    assert "signed by 2 of prod, ci, and is signed by prod only" in verdict(both, signed(PROD)).why
    twice = verdict(both, signed(PROD), signed(PROD))
    assert not twice.is_good, "one key counts once, however often it signs (ECDSA: never alike)"


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        (signed(STRANGER), "no signature that counts"),
        (signed(CI), "no signature that counts"),
        (signed(PROD, digest=OTHER), f"the signature by prod is for another image, {OTHER}"),
        (signed(PROD, name="reg.example.com/team/other"), "is for the name reg.example.com/team/other"),
        (Signature(signed(PROD).payload, signed(PROD, digest=OTHER).signature), "no signature that counts"),
        (Signature(b"{}", signing.sign(PROD, b"{}")), "payload cannot be read"),
        (Signature(signed(PROD).payload, b""), "no signature that counts"),
    ],
)
def test_a_forged_signature_does_not_count(signature: Signature, why: str) -> None:
    assert why in verdict(require("prod"), signature).why


def test_a_key_that_the_policy_lost_counts_for_nobody() -> None:
    assert not judge(Policy((require("prod"),), KEYS[1:]), IMAGE, Evidence((signed(PROD),)), NOW).is_good


# -- certificates --------------------------------------------------------------------------------


class Authority:
    """Issues certificates."""

    def __init__(
        self, name: str, *, issuer: Authority | None = None, ca: bool = True, **fields: object
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        by = issuer or self
        life = fields.get("life", (-DAY, DAY))
        assert isinstance(life, tuple)
        start, end = (datetime.datetime.fromtimestamp(NOW + at, datetime.UTC) for at in life)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(by.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        purpose = fields.get("purpose")
        if isinstance(purpose, x509.ObjectIdentifier):
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        self.certificate = builder.sign(by.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, *, chain: bytes = b"") -> Signature:
        payload = simple_signing.write_payload(NAME, DIGEST)
        return Signature(payload, signing.sign(self.key, payload), self.pem, chain)


ROOT = Authority("root")
MIDDLE = Authority("middle", issuer=ROOT)


def by_root(one: Signature, root: bytes = ROOT.pem) -> Verdict:
    policy = Policy((require("root"),), (TrustKey(id="root", pem=root),))
    return judge(policy, IMAGE, Evidence((one,)), NOW)


def test_a_certificate_that_the_trusted_one_issued_may_sign() -> None:
    code = ExtendedKeyUsageOID.CODE_SIGNING
    assert by_root(Authority("a", issuer=ROOT, ca=False, purpose=code).sign()).is_good
    assert by_root(Authority("a", issuer=MIDDLE, ca=False).sign(chain=MIDDLE.pem)).is_good
    assert by_root(Authority("a", issuer=MIDDLE, ca=False).sign(chain=MIDDLE.pem + ROOT.pem)).is_good
    leaf = Authority("a", ca=False)
    assert by_root(leaf.sign(), leaf.pem).is_good, "pinned itself"
    bare = leaf.sign()
    assert by_root(Signature(bare.payload, bare.signature), leaf.pem).is_good


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (Authority("a", ca=False).sign(), "was not issued by"),
        (Authority("a", issuer=MIDDLE, ca=False).sign(), "was not issued by"),
        (Authority("a", issuer=ROOT, ca=False, life=(-2 * DAY, -DAY)).sign(), "expired"),
        (Authority("a", issuer=ROOT, ca=False, life=(DAY, 2 * DAY)).sign(), "not valid yet"),
        (
            Authority("a", issuer=ROOT, ca=False, purpose=ExtendedKeyUsageOID.SERVER_AUTH).sign(),
            "not for signing code",
        ),
    ],
)
def test_another_certificate_may_not(one: Signature, why: str) -> None:
    assert why in by_root(one).why


def test_one_that_may_not_issue_makes_no_chain() -> None:
    end = Authority("end", issuer=ROOT, ca=False)
    assert "may not issue others" in by_root(Authority("a", issuer=end, ca=False).sign(chain=end.pem)).why
    old = Authority("old", issuer=ROOT, life=(-2 * DAY, -DAY))
    assert "expired" in by_root(Authority("a", issuer=old, ca=False).sign(chain=old.pem)).why
    same_name = Authority("root")
    assert (
        "was not issued by"
        in by_root(Authority("a", issuer=same_name, ca=False).sign(chain=same_name.pem)).why
    )


def test_a_certificate_beside_anothers_signature_does_not_help() -> None:
    leaf = Authority("a", issuer=ROOT, ca=False)
    forged = Signature(signed(STRANGER).payload, signed(STRANGER).signature, leaf.pem)
    assert not by_root(forged).is_good


# -- scans ---------------------------------------------------------------------------------------


def scan(age: float = 0.0, **counts: int) -> ImageScan:
    return ImageScan(id=DIGEST, scanned_at=NOW - age, counts=counts)


def test_a_scan_has_to_be_there_young_and_good() -> None:
    rule = require(max_severity="medium", max_scan_age=7 * DAY)
    assert "must have been scanned" in verdict(rule).why
    assert verdict(rule, scan=scan(low=3, medium=1)).is_good
    assert (
        "found 2 critical, 1 high, and may find medium at most"
        in verdict(rule, scan=scan(high=1, critical=2, low=9)).why
    )
    assert (
        "its last scan was 8 days ago, and may be 7 days old at most" in verdict(rule, scan=scan(8 * DAY)).why
    )
    assert verdict(require(max_severity="high"), scan=scan(800 * DAY, high=4)).is_good
    assert not verdict(require("prod", max_severity="high"), scan=scan()).is_good, "signed as well"


def test_a_finding_that_nobody_rated_counts_as_medium() -> None:
    assert exceeds({"unknown": 2}, "low") == {"unknown": 2}
    assert exceeds({"unknown": 2}, "medium") == {}
    assert exceeds({"critical": 0}, "none") == {}
