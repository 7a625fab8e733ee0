"""TLS for what the daemon serves with a certificate of its operator's."""

from __future__ import annotations

import ssl

from swarmd.model.errors import Invalid


def server_context(whose: str, certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 or later with these files; raises Invalid, with ``whose`` they are, when they are no good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        files = f"certificate {certificate!r} and key {key!r}"
        raise Invalid(f"{whose} {files} cannot be used: {error}") from error
    return context
