"""Counts the requests on shared ports: by service, port and class of status, never by path or client."""

from __future__ import annotations

from collections.abc import Collection

from swarmd.node.network.measures import HttpCount
from swarmd.telemetry.metrics import Labels
from swarmd.telemetry.tally import Tally, Timings

BOUNDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
_CUT = "cut"


class Counting:
    """Of one router."""

    def __init__(self) -> None:
        self._requests = Tally()
        self._bytes = Tally()
        self._seconds = Timings(BOUNDS)

    def note(self, service: str, port: int, status: int, sent: int, seconds: float) -> None:
        """A request is over.  ``service``: empty when none was found; ``status``: 0 when there was no answer;
        ``sent``: bytes of its body."""
        number = str(port)
        self._requests.add(service, number, f"{status // 100}xx" if status else _CUT)
        self._bytes.add(service, number, by=sent)
        self._seconds.add(seconds, service, number)

    def keep_only(self, routed: Collection[Labels]) -> None:
        """Forget the services that have left, by (service, port): names come and go without end."""
        for kept in (self._requests, self._bytes, self._seconds):
            kept.keep(lambda labels: not labels[0] or labels[:2] in routed)

    def counts(self, clients: int) -> HttpCount:
        """``clients``: how many are connected now."""
        return HttpCount(
            clients, self._requests.counts(), self._bytes.counts(), self._seconds.spreads(), BOUNDS
        )
