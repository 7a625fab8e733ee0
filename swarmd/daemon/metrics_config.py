"""The ``[metrics]`` table of the settings."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

from swarmd.model.errors import Invalid


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Prometheus reads this daemon's metrics.

    ``listen``: ``ADDRESS:PORT``, empty: nowhere.  ``certificate`` and ``key``: serve TLS.  ``token_file``:
    only for who brings the token in that file (``Authorization: Bearer …``); it is read at each request.
    """

    listen: str = "127.0.0.1:9323"
    certificate: str = ""
    key: str = ""
    token_file: str = ""

    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``; raises Invalid."""
        host, colon, port = self.listen.rpartition(":")
        if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
            raise Invalid(f"metrics.listen {self.listen!r}: write ADDRESS:PORT, such as 0.0.0.0:9323")
        return host.strip("[]") or "0.0.0.0", int(port)

    def check(self) -> None:
        """Raises Invalid for what cannot be meant."""
        if not self.listen:
            return
        host, _ = self.address()
        if bool(self.certificate) != bool(self.key):
            raise Invalid("metrics.certificate and metrics.key: set both, or neither")
        if self.token_file and not self.certificate and not _is_loopback(host):
            raise Invalid(
                f"metrics.token_file needs metrics.certificate and metrics.key when metrics.listen is "
                f"{self.listen}: without TLS everybody on the way can read the token"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
