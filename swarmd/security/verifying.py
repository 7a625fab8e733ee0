"""Signatures of anybody's keys: public keys and certificates read, signatures checked.  Pure.

ECDSA over P-256 with SHA-256 (DER) and Ed25519, as cosign makes them.  A certificate counts while it
is valid; one that is not itself trusted has to be issued, over some others, by one that is.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from swarmd.model.errors import Invalid

X = TypeVar("X", bound=x509.ExtensionType)

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_LONGEST_CHAIN = 6
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_MOST_PEM = 64 << 10
_UNDERSTOOD = (
    x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier,
)  # fmt: skip
"""Extensions that may be critical: what else a certificate insists on is not known here."""


def is_certificate(pem: bytes) -> bool:
    """Whether ``pem`` holds a certificate, not a bare key."""
    return _CERTIFICATE in pem


def certificates(pem: bytes) -> list[x509.Certificate]:
    """All certificates of ``pem``, in order.  Raises Invalid when one cannot be read."""
    if len(pem) > _MOST_PEM:
        raise Invalid(f"the certificates have {len(pem)} bytes; at most {_MOST_PEM} are read")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise Invalid(f"the certificate cannot be read: {error}") from error


def public_key(pem: bytes) -> PublicKey:
    """The key of ``pem``, a public key or a certificate.  Raises Invalid for other kinds of keys."""
    if is_certificate(pem):
        key = certificates(pem)[0].public_key()
    else:
        if len(pem) > _MOST_PEM:
            raise Invalid(f"the key has {len(pem)} bytes; at most {_MOST_PEM} are read")
        try:
            key = serialization.load_pem_public_key(pem)  # type: ignore[assignment]
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Invalid(
                "this is no public key in PEM form; give the .pub file of the pair, or a certificate"
            ) from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise Invalid(f"a {type(key).__name__} is not used for signatures here: take ECDSA P-256 or Ed25519")


def kind(key: PublicKey) -> str:
    """``ecdsa-p256`` or ``ed25519``."""
    return "ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "ecdsa-p256"


def fingerprint(pem: bytes) -> str:
    """``sha256:<hex>`` of the public key's DER: the same for a key and for a certificate of it."""
    der = public_key(pem).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def is_signed_by(key: PublicKey, data: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is that key's, over ``data``."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def check_chain(
    trusted: x509.Certificate, leaf: x509.Certificate, between: Sequence[x509.Certificate], now: float
) -> None:
    """``leaf`` may sign, at ``now``, because ``trusted`` (or it by way of ``between``) says so.

    Raises Invalid with the reason when it may not.
    """
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    _check_valid(leaf, at)
    _check_may_sign(leaf)
    current, rest = leaf, [one for one in between if one not in (leaf, trusted)]
    for depth in range(_LONGEST_CHAIN):
        if current == trusted:
            return
        if _issued(current, trusted):
            _check_issuer(trusted, depth, at)
            return
        issuer = next((one for one in rest if _issued(current, one)), None)
        if issuer is None:
            break
        _check_issuer(issuer, depth, at)
        rest.remove(issuer)
        current = issuer
    raise Invalid(f"the certificate {_name(leaf)} was not issued by {_name(trusted)}")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_issuer(issuer: x509.Certificate, depth: int, at: datetime.datetime) -> None:
    """``depth``: certificates between it and the one that signs."""
    _check_valid(issuer, at)
    limits = _extension(issuer, x509.BasicConstraints)
    if limits is None or not limits.ca:
        raise Invalid(f"the certificate {_name(issuer)} may not issue others")
    if limits.path_length is not None and depth > limits.path_length:
        raise Invalid(f"the certificate {_name(issuer)} may not issue a chain of {depth + 1}")
    usage = _extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise Invalid(f"the certificate {_name(issuer)} may not sign others")


def _check_may_sign(leaf: x509.Certificate) -> None:
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise Invalid(f"the certificate {_name(leaf)} is not for signatures")
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    allowed = (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if purposes is not None and not any(one in purposes for one in allowed):
        raise Invalid(f"the certificate {_name(leaf)} is not for signing code")


def _check_valid(certificate: x509.Certificate, at: datetime.datetime) -> None:
    if at < certificate.not_valid_before_utc:
        raise Invalid(f"the certificate {_name(certificate)} is not valid yet")
    if at > certificate.not_valid_after_utc:
        raise Invalid(f"the certificate {_name(certificate)} expired at {certificate.not_valid_after_utc}")
    try:
        unknown = [
            one.oid.dotted_string
            for one in certificate.extensions
            if one.critical and not isinstance(one.value, _UNDERSTOOD)
        ]
    except (ValueError, x509.DuplicateExtension) as error:
        raise Invalid(f"the certificate {_name(certificate)} cannot be read: {error}") from error
    if unknown:
        raise Invalid(
            f"the certificate {_name(certificate)} insists on {unknown[0]}, which is not known here"
        )


def _extension(certificate: x509.Certificate, of: type[X]) -> X | None:
    try:
        return certificate.extensions.get_extension_for_class(of).value
    except x509.ExtensionNotFound:
        return None


def _name(certificate: x509.Certificate) -> str:
    return f'"{certificate.subject.rfc4514_string()}"'
