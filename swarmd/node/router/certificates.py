"""The certificates of one port: which a client is shown, and how a new one takes the place of an old one.

A connection keeps the certificate that it began with.  Keys are handed to the TLS library through memory.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping

from swarmd.node.network.port import HttpRoute
from swarmd.node.router.core.match import certificate_for


class Certificates:
    """Of one port."""

    def __init__(self) -> None:
        self._pems: dict[str, bytes] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._routes: tuple[HttpRoute, ...] = ()
        self.problems: tuple[str, ...] = ()
        """A sentence for each certificate that cannot be used."""
        self.front = _context()
        """What the port listens with: it has no certificate, and passes each client on to one that has."""
        self.front.sni_callback = self._choose

    def update(self, routes: Iterable[HttpRoute], pems: Mapping[str, bytes]) -> None:
        """From now on new connections are served with these."""
        self._routes = tuple(routes)
        wanted = {route.tls for route in self._routes if route.tls}
        problems: list[str] = []
        for name in sorted(wanted):
            port = next(route.port for route in self._routes if route.tls == name)
            pem = pems.get(name)
            if pem is None:
                if name not in self._contexts:
                    problems.append(
                        f"port {port} has no certificate {name} yet: keys are not kept on this node's disk, "
                        "and it waits for a manager to say it again"
                    )
            elif self._pems.get(name) != pem:
                try:
                    self._contexts[name] = _context(pem)
                    self._pems[name] = pem
                except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                    problems.append(f"the certificate {name} of port {port} cannot be served: {error}")
        for name in [name for name in self._contexts if name not in wanted]:
            del self._contexts[name]
            self._pems.pop(name, None)
        self.problems = tuple(problems)

    def _choose(self, connection: ssl.SSLObject, name: str | None, front: ssl.SSLContext) -> int | None:
        found = self._contexts.get(certificate_for(name, self._routes))
        if found is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = found
        return None


def _context(pem: bytes = b"") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["h2", "http/1.1"])
    if pem:
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
        finally:
            os.close(descriptor)
    return context


def _no_password() -> bytes:
    raise ValueError("its key is sealed with a password")
