"""Proof of being a node without TLS saying so: for a certificate that has expired and may only be renewed.

The node signs its request for a new certificate with the key of the old one.  The request names a key
of its own, so whoever repeats it later gets a certificate that only the node can use.
"""

from __future__ import annotations

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from swarmd.model.errors import Denied
from swarmd.security import ca, roots

_CONTEXT = b"swarmd certificate renewal 1\0"


class Proven(msgspec.Struct, frozen=True):
    """Whose certificate it was, and since when it was good (seconds since 1970)."""

    identity: ca.Identity
    valid_from: float


def sign_request(request_pem: bytes, key_pem: bytes) -> bytes:
    """The signature that goes along with a request, by the key that the old certificate is for."""
    key = serialization.load_pem_private_key(key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.sign(_CONTEXT + request_pem, ec.ECDSA(hashes.SHA256()))


def prove(request_pem: bytes, certificate_pem: bytes, signature: bytes, bundle: bytes) -> Proven:
    """Who asks.  Raises Denied unless the certificate leads to a trusted root and its key signed the request.

    That it has expired is no reason to refuse: whoever lets it in looks at the node's row.
    """
    if not roots.leads_to(certificate_pem, bundle):
        raise Denied("the certificate shown is not signed by this swarm's root")
    public = x509.load_pem_x509_certificate(certificate_pem).public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise Denied("the certificate shown is not a swarm node's")
    try:
        public.verify(signature, _CONTEXT + request_pem, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise Denied("the request is not signed with the key of the certificate shown") from error
    return Proven(ca.identity_of(certificate_pem), ca.validity(certificate_pem)[0])
