"""How a service's containers are to be probed.  Durations are seconds; 0 means not set."""

from __future__ import annotations

import msgspec


class HealthSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Docker's health check.  ``test`` is ``("NONE",)``, ``("CMD", …)`` or ``("CMD-SHELL", text)``.

    What is not set comes from the image, and from Docker's defaults after that.
    """

    test: tuple[str, ...] = ()
    interval: float = 0.0
    timeout: float = 0.0
    retries: int = 0
    start_period: float = 0.0
    start_interval: float = 0.0


class ProbeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A readiness or liveness probe.

    ``kind``: ``exec`` runs ``command`` in the container; ``tcp`` connects to ``port``; ``http`` asks for
    ``path`` there (``scheme`` http or https) and wants a status of 200 to 399, or ``status`` if that is set.
    ``delay`` passes before the first probe; ``failures`` in a row are a verdict, as are ``successes``.
    """

    kind: str = ""
    command: tuple[str, ...] = ()
    port: int = 0
    path: str = ""
    scheme: str = ""
    headers: dict[str, str] = {}
    status: int = 0
    interval: float = 0.0
    timeout: float = 0.0
    delay: float = 0.0
    failures: int = 0
    successes: int = 0
