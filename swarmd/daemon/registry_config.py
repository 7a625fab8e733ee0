"""The ``[registry]`` table of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

from swarmd.model.errors import Invalid


class RegistryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The swarm's registry on this node, and what it does with others.

    ``port``: on loopback, in plain HTTP; 0: not served.  ``listen``: ``ADDRESS:PORT`` to serve TLS at
    besides, with ``certificate`` and ``key``, for the users in ``users_file``.  ``delete``: whether clients
    may.  ``mirror``: registries that are read through this one (``*``: all, empty: none).
    ``mirrors``: by the host of an image (``docker.io`` for names without one), what is asked first for it.
    ``insecure``: hosts, ``host:port`` or networks whose certificate does not matter and that may speak plain
    HTTP, as those on loopback always may.  ``ca``: a directory with ``<host:port>/ca.crt``, ``client.cert``
    and ``client.key``.
    """

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 5000
    listen: str = ""
    certificate: str = ""
    key: str = ""
    users_file: str = ""
    delete: bool = True
    mirror: tuple[str, ...] = ("*",)
    mirrors: dict[str, tuple[str, ...]] = {}
    insecure: tuple[str, ...] = ()
    ca: str = "/etc/swarmd/certs.d"

    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``; raises Invalid."""
        host, colon, port = self.listen.rpartition(":")
        if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
            raise Invalid(f"registry.listen {self.listen!r}: write ADDRESS:PORT, such as 0.0.0.0:5443")
        return host.strip("[]") or "0.0.0.0", int(port)

    def check(self) -> None:
        """Raises Invalid for what cannot be meant."""
        if not self.listen:
            return
        self.address()
        for name in ("certificate", "key", "users_file"):
            if not getattr(self, name):
                raise Invalid(
                    f"registry.listen needs registry.{name}: outside of this machine it is TLS only"
                )
