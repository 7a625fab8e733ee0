"""What ``trust`` and ``image scan`` read and print, without a daemon."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from swarmd.cli import advisories
from swarmd.cli.errors import CliError
from swarmd.cli.rows_scan import finding_rows, package_rows, summary
from swarmd.cli.rows_trust import keys_of, known, rule_rows, verdict_lines
from swarmd.cli.secrets import open_key, password_of
from swarmd.model.errors import Denied
from swarmd.rpc.v1 import trust_pb2, types_pb2
from swarmd.security import signing

DIGEST = "sha256:" + "a" * 64
PAYLOAD = (
    b'{"critical":{"identity":{"docker-reference":"reg/app"},"image":{"docker-manifest-digest":"'
    + DIGEST.encode()
    + b'"},"type":"cosign container image signature"},"optional":{"build":"7"}}'
)


def test_advisories_come_from_directories_zips_and_zips_in_directories(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_bytes(b"1")
    (tmp_path / "readme.txt").write_bytes(b"no")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("b.json", "2")
        archive.writestr("index.html", "no")
    assert list(advisories.batches(str(tmp_path))) == [[b"1", b"2"]]
    assert list(advisories.batches(str(tmp_path / "all.zip"))) == [[b"2"]]


def test_what_holds_no_advisories_is_said_to(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"{}")
    (tmp_path / "empty").mkdir()
    for path in ("x.json", "empty", "nothing"):
        with pytest.raises(CliError, match=path):
            list(advisories.batches(str(tmp_path / path)))


def test_rules_show_how_many_of_which_keys() -> None:
    rules = [
        types_pb2.TrustRule(id="*", action="reject"),
        types_pb2.TrustRule(
            id="reg/*", action="require", keys=["a", "b"], threshold=2, max_severity="high", max_scan_age=3600
        ),
    ]
    assert [(row["Keys"], row["MaxScanAge"]) for row in rule_rows(rules)] == [
        ("", ""),
        ("2 of a, b", "1h0m0s"),
    ]


def test_a_signature_counts_for_a_key_when_it_is_of_this_image() -> None:
    key, other = signing.generate("ecdsa"), signing.generate("ecdsa")
    one = trust_pb2.SignatureView(
        signature=trust_pb2.ImageSignature(payload=PAYLOAD, signature=signing.sign(key, PAYLOAD))
    )
    answer = trust_pb2.ReadTrustResponse(name="docker.io/reg/app", digest=DIGEST, signatures=[one])
    assert keys_of(answer, signing.public_pem(key)) == 1
    assert keys_of(answer, signing.public_pem(other)) == 0
    answer.digest = DIGEST.replace("a", "b")
    assert keys_of(answer, signing.public_pem(key)) == 0
    assert known(answer)["Signatures"][0]["Annotations"] == {"build": "7"}
    assert verdict_lines(answer)[0].endswith("may run: no rule is for it")


def test_a_key_is_opened_with_the_first_line_of_a_file(tmp_path: Path) -> None:
    key = signing.generate("ed25519")
    (tmp_path / "key").write_bytes(signing.seal(key, b"a b"))
    (tmp_path / "password").write_bytes(b"a b\r\nmore\n")
    (tmp_path / "wrong").write_bytes(b"a\n")
    assert password_of(str(tmp_path / "password")) == b"a b"
    found = open_key(str(tmp_path / "key"), str(tmp_path / "password"))
    assert signing.public_pem(found) == signing.public_pem(key)
    with pytest.raises(Denied):
        open_key(str(tmp_path / "key"), str(tmp_path / "wrong"))


def test_findings_and_packages_have_rows_and_a_summary() -> None:
    finding = trust_pb2.Finding(
        id="X", severity="high", score=7.5, package="p", version="1", fixed="2", aliases=["A", "B", "C", "D"]
    )
    [row] = finding_rows([finding])
    assert (row["Aliases"], row["Score"], row["Fixed"]) == ("A, B, C, …", "7.5", "2")
    package = trust_pb2.Package(
        kind="deb", name="libc6", version="1", source="glibc", path="var/lib/dpkg/status"
    )
    assert package_rows([package])[0]["Source"] == "glibc"
    answer = trust_pb2.ReadFindingsResponse(
        name="web", distribution="debian 12", packages=3, advisories=9, counts={"low": 1, "critical": 2}
    )
    assert summary(answer) == "web (debian 12): 3 packages, 9 advisories: 2 critical, 1 low"
    answer.counts.clear()
    assert summary(answer).endswith("nothing found")
