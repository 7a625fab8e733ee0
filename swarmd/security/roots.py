"""Root certificates: given from outside, cross-signed, in bundles; and whether a chain leads to one of them.

While the root changes, a node's certificate is followed by the new root's key certified by the old root:

    old root ──► new root's key ──► node        for whoever trusts only the old root yet
                 new root ────────► node        for whoever trusts the new one

Time plays no part here: what has expired, its user says.
"""

from __future__ import annotations

import datetime
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from swarmd.model.errors import Invalid

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_OTHERS = "give the root itself: one self-signed certificate of an authority"


def split(bundle: bytes) -> tuple[bytes, ...]:
    """The certificates of a PEM bundle, each as PEM of its own, in one spelling.  Raises Invalid."""
    return tuple(_pem(certificate) for certificate in _load(bundle))


def load(certificate: bytes) -> x509.Certificate:
    """The first certificate of PEM, or one in DER.  Raises ValueError."""
    if certificate.startswith(b"-----"):
        return x509.load_pem_x509_certificate(certificate)
    return x509.load_der_x509_certificate(certificate)


def subject(certificate_pem: bytes) -> str:
    """The name of a certificate's holder, as RFC 4514 writes it."""
    return _load(certificate_pem)[0].subject.rfc4514_string()


def key_id(certificate_pem: bytes) -> str:
    """The identifier of a certificate's own key, hexadecimal: what the certificates it signs refer to."""
    return _key_identifier(_load(certificate_pem)[0]).digest.hex()


def issuer_key_id(certificate: bytes) -> str:
    """The identifier of the key that signed a certificate (PEM or DER), hexadecimal; "" when it has none."""
    try:
        found = load(certificate).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return ""
    return (found.value.key_identifier or b"").hex()


def leads_to(chain: bytes, bundle: bytes) -> bool:
    """Whether the first certificate of ``chain`` (PEM) is signed by a root of ``bundle``, or by an authority
    of the chain that is."""
    try:
        leaf, *others = _load(chain)
        roots = _load(bundle)
    except Invalid:
        return False
    between = [one for one in others if _is_authority(one) and any(_signed(one, root) for root in roots)]
    return any(_signed(leaf, issuer) for issuer in (*roots, *between))


def given_root(certificate_pem: bytes, key_pem: bytes, now: float) -> tuple[bytes, bytes]:
    """A root certificate and its key that somebody brings, checked, each in one spelling.

    Raises Invalid: says what is wrong with which of the two.
    """
    found = _load(certificate_pem)
    if len(found) != 1:
        raise Invalid(f"ca-cert: {len(found)} certificates are in it: {_OTHERS}")
    root, key = found[0], _given_key(key_pem)
    if root.public_key() != key.public_key():
        raise Invalid("ca-key: it is not the key of the certificate in ca-cert")
    if not _is_authority(root):
        raise Invalid(f"ca-cert: the certificate may not sign others: {_OTHERS}")
    if not _signed(root, root):
        raise Invalid(f"ca-cert: the certificate is signed by another one: {_OTHERS}")
    if _path_length(root) == 0:
        raise Invalid(
            "ca-cert: its path length 0 forbids the certificate between two roots that a later rotation "
            "needs: make it without a path length, or with 1"
        )
    _check_dates(root, now)
    return _pem(root), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def cross_sign(root_pem: bytes, *, by_pem: bytes, by_key_pem: bytes, now: float) -> bytes:
    """The key of ``root_pem`` certified by another root: it lives as long as the shorter of the two."""
    root, by = _load(root_pem)[0], _load(by_pem)[0]
    key = _given_key(by_key_pem)
    start = datetime.datetime.fromtimestamp(now, tz=datetime.UTC) - datetime.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(root.subject)
        .issuer_name(by.subject)
        .public_key(root.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(start, by.not_valid_before_utc))
        .not_valid_after(min(root.not_valid_after_utc, by.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs_certificates(), critical=True)
        .add_extension(_key_identifier(root), critical=False)
        .add_extension(authority_key_identifier(by), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate)


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """How certificates refer to their issuer: by its own word for its key, which need not be ours."""
    return x509.AuthorityKeyIdentifier(
        key_identifier=_key_identifier(issuer).digest,
        authority_cert_issuer=None,
        authority_cert_serial_number=None,
    )


def _key_identifier(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(
            cast("ec.EllipticCurvePublicKey", certificate.public_key())
        )


def _given_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid("ca-key: it is no readable private key in PEM without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, _CURVES):
        raise Invalid("ca-key: it is no ECDSA key on the curve P-256, P-384 or P-521")
    return key


def _check_dates(root: x509.Certificate, now: float) -> None:
    begin, end = root.not_valid_before_utc, root.not_valid_after_utc
    if now >= end.timestamp():
        raise Invalid(f"ca-cert: the certificate expired on {end:%Y-%m-%d %H:%M} UTC")
    if now < begin.timestamp():
        raise Invalid(f"ca-cert: the certificate is valid from {begin:%Y-%m-%d %H:%M} UTC on, not yet")


def _is_authority(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except x509.ExtensionNotFound:
        return False
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _path_length(certificate: x509.Certificate) -> int | None:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _load(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid("ca-cert: it is no readable certificate in PEM") from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
