"""A visitor who keeps requesting while something happens to the service."""

from __future__ import annotations

import http.client
import threading

from tests.cluster.lab import Lab


class Visitor:
    """Keeps requesting, one connection a request, from the given nodes in turn."""

    def __init__(self, lab: Lab, port: int, nodes: list[str], *, host: str = "") -> None:
        self._host = host
        self._lab = lab
        self._port = port
        self._nodes = nodes
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._keep_asking)
        self.images: list[str] = []
        self.failures: list[str] = []

    def __enter__(self) -> Visitor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _keep_asking(self) -> None:
        turn = 0
        while not self._enough.is_set():
            node = self._nodes[turn % len(self._nodes)]
            turn += 1
            try:
                self.images.append(self._lab.get(node, self._port, host=self._host).image)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"request {turn} to {node}: {error!r}")
            self._enough.wait(0.005)
