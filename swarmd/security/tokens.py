"""Join tokens: ``SWMTKN-1-<digest of the root certificate>-<secret>``, as Docker writes them.

The digest (SHA-256, base 36, 50 characters) lets a joiner know the authority before it trusts it; the
secret (128 bits, base 36, 25 characters) says which role the swarm gives.
"""

from __future__ import annotations

import hashlib
import hmac
import re

import msgspec

from swarmd.kit.ids import base36
from swarmd.model.errors import Invalid

_TOKEN = re.compile(r"SWMTKN-1-([0-9a-z]{50})-([0-9a-z]{25})")


class TokenText(msgspec.Struct, frozen=True):
    """The two halves of a token."""

    ca_digest: str
    secret: str

    def __str__(self) -> str:
        return f"SWMTKN-1-{self.ca_digest}-{self.secret}"


def ca_digest(root_ca_pem: bytes) -> str:
    """The digest of a root certificate as tokens carry it."""
    return base36(int.from_bytes(hashlib.sha256(root_ca_pem.strip()).digest(), "big"), 50)


def make_token(root_ca_pem: bytes, secret: str) -> str:
    """The token that joins the swarm of that authority."""
    return str(TokenText(ca_digest(root_ca_pem), secret))


def parse_token(text: str) -> TokenText:
    """Raises Invalid when it is no token."""
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise Invalid("invalid join token")
    return TokenText(match.group(1), match.group(2))


def secret_hash(secret: str) -> str:
    """What the swarm keeps of the secret of a token made for some nodes: SHA-256, hex.

    The secret is 128 random bits, so that no slower hash would protect it better.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def same_secret(given: str, expected: str) -> bool:
    """Compare without telling by time how much was right; an empty expectation matches nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())
