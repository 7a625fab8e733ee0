"""The ``[registry]`` table of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

from swarmd.model.errors import Invalid

REGISTRY_PORT = 5000


class RegistryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The swarm's registry on this node, and what it does with others.

    ``port``: on loopback, in plain HTTP; 0: not served.  ``listen``: ``ADDRESS:PORT`` to serve TLS at
    besides, with ``certificate`` and ``key``, for the users in ``users_file``.  ``delete``: whether clients
    may.  ``read_through``: other registries that may be read through this one (``*``: all, empty: none).
    ``keep_untagged_days``: manifests without a tag that nothing needs are deleted after as many; 0: never.
    What leads the swarm goes by its own.
    """

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = REGISTRY_PORT
    listen: str = ""
    certificate: str = ""
    key: str = ""
    users_file: str = ""
    delete: bool = True
    read_through: tuple[str, ...] = ("*",)
    keep_untagged_days: Annotated[float, msgspec.Meta(ge=0.0)] = 14.0

    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``; raises Invalid."""
        host, colon, port = self.listen.rpartition(":")
        if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
            raise Invalid(f"registry.listen {self.listen!r}: write ADDRESS:PORT, such as 0.0.0.0:5443")
        return host.strip("[]") or "0.0.0.0", int(port)

    @property
    def domains(self) -> tuple[str, ...]:
        """Of image names that mean the swarm's own registry."""
        port = self.port or REGISTRY_PORT
        return (f"localhost:{port}", f"127.0.0.1:{port}")

    @property
    def keep_untagged(self) -> float:
        """Seconds."""
        return self.keep_untagged_days * 86_400

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
