"""Root certificates: which are taken from outside, and which chains lead to which root."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from swarmd.model.errors import Invalid
from swarmd.model.states import Role
from swarmd.security import ca, roots
from swarmd.security.issuing import Signer

NOW = 1_800_000_000.0
DAY = 86400.0


def pem_of(key: Any, password: bytes = b"") -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))


def certificate(
    key: Any,
    *,
    is_ca: bool = True,
    path_length: int | None = None,
    days: tuple[float, float] = (-1, 3650),
    own_identifier: bytes = b"",
    issuer: str = "outside",
    signed_by: Any = None,
) -> bytes:
    """A certificate as others make them."""
    begin, end = (datetime.datetime.fromtimestamp(NOW + day * DAY, tz=datetime.UTC) for day in days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "outside")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(
            x509.BasicConstraints(ca=is_ca, path_length=path_length if is_ca else None), critical=True
        )
    )
    if own_identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(own_identifier), critical=False)
    made = builder.sign(signed_by or key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def node(root: bytes, key: bytes, chain: bytes = b"") -> tuple[bytes, bytes]:
    """(certificate with its chain, key) of a node."""
    own = ca.new_key()
    identity = ca.Identity("n1", Role.WORKER, "c1")
    return Signer(root, key, chain).sign(ca.new_request(own), identity, now=NOW, life=DAY), own


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def test_a_root_of_a_good_curve_is_taken_in_one_spelling(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    given = certificate(key)
    untidy = b"# made by hand\n" + given.replace(b"\n", b"\r\n") + b"\n\n"
    root, root_key = roots.given_root(untidy, pem_of(key), NOW)
    assert root == given
    leaf, _ = node(root, root_key)
    assert roots.leads_to(leaf, root)


KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("certificate_pem", "key_pem", "reason"),
    [
        (b"nothing", pem_of(KEY), "ca-cert: it is no readable certificate"),
        (certificate(KEY) * 2, pem_of(KEY), "ca-cert: 2 certificates are in it"),
        (certificate(KEY), b"nothing", "ca-key: it is no readable private key"),
        (certificate(KEY), pem_of(KEY, b"secret"), "ca-key: it is no readable private key in PEM without"),
        (certificate(RSA), pem_of(RSA), "ca-key: it is no ECDSA key"),
        (certificate(KEY), pem_of(OTHER), "ca-key: it is not the key of the certificate"),
        (certificate(KEY, is_ca=False), pem_of(KEY), "ca-cert: the certificate may not sign others"),
        (
            certificate(KEY, issuer="above", signed_by=OTHER),
            pem_of(KEY),
            "ca-cert: the certificate is signed by another one",
        ),
        (certificate(KEY, path_length=0), pem_of(KEY), "ca-cert: its path length 0"),
        (certificate(KEY, days=(-9, -1)), pem_of(KEY), "ca-cert: the certificate expired on 2027-01-14"),
        (certificate(KEY, days=(1, 9)), pem_of(KEY), "ca-cert: the certificate is valid from 2027-01-16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_root_is_refused_with_the_reason(
    certificate_pem: bytes, key_pem: bytes, reason: str
) -> None:
    with pytest.raises(Invalid) as refused:
        roots.given_root(certificate_pem, key_pem, NOW)
    assert str(refused.value).startswith(reason)


def test_a_cross_signed_chain_leads_to_both_roots_and_its_certificate_alone_to_the_new_one() -> None:
    old, old_key = ca.new_root(NOW)
    new, new_key = ca.new_root(NOW)
    third, _ = ca.new_root(NOW)
    cross = roots.cross_sign(new, by_pem=old, by_key_pem=old_key, now=NOW)
    chain, _ = node(new, new_key, cross)
    assert roots.leads_to(chain, old)
    assert roots.leads_to(chain, new)
    assert roots.leads_to(chain, third + old)
    assert not roots.leads_to(chain, third)
    alone = roots.split(chain)[0]
    assert roots.leads_to(alone, new)
    assert not roots.leads_to(alone, old)


def test_a_node_certificate_signs_nobody() -> None:
    """The key of a node, however it is put into a chain, makes no other node."""
    root, root_key = ca.new_root(NOW)
    trusted, own = node(root, root_key)
    forged, _ = node(trusted, own)
    assert not roots.leads_to(forged + trusted, root)


def test_the_name_that_a_root_gives_its_key_is_kept() -> None:
    """Authorities elsewhere do not derive it as this one does, and verifiers compare it."""
    key = ec.generate_private_key(ec.SECP256R1())
    root, root_key = roots.given_root(certificate(key, own_identifier=b"\x01\x02\x03"), pem_of(key), NOW)
    old, old_key = ca.new_root(NOW)
    cross = roots.cross_sign(root, by_pem=old, by_key_pem=old_key, now=NOW)
    leaf, _ = node(root, root_key, cross)
    assert roots.issuer_key_id(leaf) == roots.key_id(root) == roots.key_id(cross) == "010203"


def test_the_certificate_between_two_roots_lives_as_long_as_the_shorter_one() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    short = certificate(key, days=(-1, 30))
    old, old_key = ca.new_root(NOW)
    cross = roots.cross_sign(short, by_pem=old, by_key_pem=old_key, now=NOW)
    assert ca.validity(cross)[1] == ca.validity(short)[1]
    assert ca.validity(cross)[0] <= NOW
