"""The cluster's certificate authority: ECDSA P-256, a root for 20 years, node certificates for 90 days.

A node's identity is its certificate and nothing else: CN = node id, OU = role, O = cluster id.  The names
in the certificate (SAN) are the node id and the role, so a caller can insist on either.
"""

from __future__ import annotations

import datetime
import hashlib
from typing import cast

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmd.model.errors import Denied, Invalid
from swarmd.model.states import Role
from swarmd.security import roots

ROOT_LIFE = datetime.timedelta(days=20 * 365)
BACKDATE = datetime.timedelta(hours=1)

_ROLE_UNITS = {Role.MANAGER: "swarm-manager", Role.WORKER: "swarm-worker"}


class Identity(msgspec.Struct, frozen=True):
    """Who a certificate says its holder is."""

    node_id: str
    role: Role
    cluster_id: str


def role_unit(role: Role) -> str:
    """The OU (and DNS name) of a role."""
    return _ROLE_UNITS[role]


def new_key() -> bytes:
    """A fresh private key, PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_root(now: float) -> tuple[bytes, bytes]:
    """A self-signed root: (certificate PEM, key PEM)."""
    key_pem = new_key()
    key = _load_key(key_pem)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "swarm-ca")])
    start = _utc(now) - BACKDATE
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key_pem


def new_request(key_pem: bytes) -> bytes:
    """A certificate request.  Its subject is ignored: the authority decides who one is."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(_load_key(key_pem), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def sign(
    request_pem: bytes,
    identity: Identity,
    *,
    root_pem: bytes,
    root_key_pem: bytes,
    now: float,
    life: float,
    since: float | None = None,
) -> bytes:
    """Certify ``identity`` for the key of a request, for ``life`` seconds from ``now`` on.

    It counts from an hour ago on, or from ``since`` (seconds since 1970) when that is earlier.
    Raises Invalid when the request is not one, is not signed by its own key, or its key is no P-256 one.
    """
    public = _requested_key(request_pem)
    root, root_key = x509.load_pem_x509_certificate(root_pem), _load_key(root_key_pem)
    certificate = (
        _named(identity)
        .issuer_name(root.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_begin(now, since))
        .not_valid_after(_utc(now) + datetime.timedelta(seconds=life))
        .add_extension(roots.authority_key_identifier(root), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _named(identity: Identity) -> x509.CertificateBuilder:
    unit = role_unit(identity.role)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.cluster_id),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, identity.node_id),
        ]
    )
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    names = x509.SubjectAlternativeName([x509.DNSName(identity.node_id), x509.DNSName(unit)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(uses, critical=False)
        .add_extension(names, critical=False)
    )


def _begin(now: float, since: float | None) -> datetime.datetime:
    usual = _utc(now) - BACKDATE
    return usual if since is None else min(usual, _utc(since))


def _requested_key(request_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(request_pem)
        public, is_own = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid("the certificate request is not readable PEM") from error
    if not is_own:
        raise Invalid("the certificate request is not signed by its own key")
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise Invalid("the certificate request is not for an ECDSA key on the curve P-256")
    return public


def key_digest(request_pem: bytes) -> str:
    """SHA-256 (hex) of the public key that a request is for.  Raises Invalid as :func:`sign` does."""
    spki = _requested_key(request_pem).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def identity_of(certificate: bytes) -> Identity:
    """Who a certificate (PEM or DER, verified already) names.  Raises Denied when it is no node's."""
    try:
        parsed = roots.load(certificate)
        unit = _attribute(parsed, NameOID.ORGANIZATIONAL_UNIT_NAME)
        role = next(role for role, name in _ROLE_UNITS.items() if name == unit)
        return Identity(
            node_id=_attribute(parsed, NameOID.COMMON_NAME),
            role=role,
            cluster_id=_attribute(parsed, NameOID.ORGANIZATION_NAME),
        )
    except (ValueError, IndexError, StopIteration) as error:
        raise Denied("the certificate shown is not a swarm node's") from error


def validity(certificate: bytes) -> tuple[float, float]:
    """Begin and end of the life of a certificate (PEM or DER), seconds since 1970."""
    parsed = roots.load(certificate)
    return parsed.not_valid_before_utc.timestamp(), parsed.not_valid_after_utc.timestamp()


def is_key_of(key_pem: bytes, certificate_pem: bytes) -> bool:
    """Whether that private key belongs to that certificate."""
    try:
        certified = x509.load_pem_x509_certificate(certificate_pem).public_key()
        return _load_key(key_pem).public_key() == certified
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    return str(certificate.subject.get_attributes_for_oid(oid)[0].value)


def _load_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    return cast("ec.EllipticCurvePrivateKey", serialization.load_pem_private_key(key_pem, password=None))


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
