"""Read a certificate that others are served with: PEM, the chain from the leaf on, and the leaf's key."""

from __future__ import annotations

import itertools

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from swarmd.model.errors import Invalid

_KEY = b"PRIVATE KEY-----"


class Serving(msgspec.Struct, frozen=True):
    """What a certificate says: the DNS names it is for, and from when to when (seconds since 1970)."""

    names: tuple[str, ...]
    valid_from: float
    valid_until: float

    def covers(self, host: str) -> bool:
        """Whether a client accepts it for ``host``; for ``*.example.com`` it must say just that."""
        host = host.lower()
        return host in self.names or (
            not host.startswith("*.") and f"*.{host.partition('.')[2]}" in self.names
        )


def read(pem: bytes) -> Serving:
    """Raises Invalid, saying what is missing or does not fit."""
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise Invalid("it has no certificate in PEM (-----BEGIN CERTIFICATE-----)") from error
    leaf = chain[0]
    if _public(leaf.public_key()) != _public(_key(pem).public_key()):
        raise Invalid(
            "its private key is not that of its first certificate: put the server's own certificate first"
        )
    for below, above in itertools.pairwise(chain):
        if below.issuer != above.subject:
            raise Invalid(
                f"its certificates are no chain: {_name(below)} is issued by "
                f"{below.issuer.rfc4514_string()}, and {_name(above)} follows it"
            )
    return Serving(
        names=_names(leaf),
        valid_from=leaf.not_valid_before_utc.timestamp(),
        valid_until=leaf.not_valid_after_utc.timestamp(),
    )


def _key(pem: bytes) -> PrivateKeyTypes:
    if _KEY not in pem:
        raise Invalid("it has no private key in PEM (-----BEGIN PRIVATE KEY-----) beside the certificate")
    try:
        return serialization.load_pem_private_key(_block(pem), password=None)
    except TypeError as error:
        raise Invalid(
            "its private key is sealed with a password: store it without one, a secret is sealed"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid("its private key cannot be read") from error


def _block(pem: bytes) -> bytes:
    """The first block that is a private key: OpenSSL writes the parameters of a curve before it."""
    blocks = pem.split(b"-----BEGIN ")
    found = next(block for block in blocks if _KEY in block.partition(b"\n")[0])
    return b"-----BEGIN " + found


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        said = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name.lower() for name in said.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        return tuple(
            str(name.value).lower() for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        )


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a name"
