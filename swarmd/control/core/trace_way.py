"""The steps of a trace as they are found: what is said, and how each end is put."""

from __future__ import annotations

from collections.abc import Sequence

from swarmd.control.core.trace_rows import Destination, Owner, Rows, Step, Verdict, listed
from swarmd.model.objects import Task
from swarmd.model.states import NodeState

Backends = Sequence[tuple[Task, str]]
"""Tasks, each with the address (and port) that the packet gets."""

MOST = 10


class Way:
    """``networks``: ids of those the source is in, in its order; ``is_host``: it has its node's network."""

    def __init__(self, rows: Rows, source: Task, to: Destination) -> None:
        self.rows = rows
        self.source = source
        self.to = to
        self.networks = [one.network_id for one in source.networks]
        self.is_host = False
        self.steps: list[Step] = []

    def only_inside(self) -> str:
        """The names of the source's networks when all of them are internal; else ""."""
        networks = [self.rows.networks[one] for one in self.networks if one in self.rows.networks]
        names = [one.name for one in networks if one.spec.internal]
        return listed(names) if names and len(names) == len(networks) else ""

    def say(self, kind: str, text: str, *, refused: bool = False) -> None:
        self.steps.append(Step(kind, text, refused))

    def refuse(self, kind: str, text: str) -> tuple[Verdict, str]:
        """What stops the packet here."""
        self.say(kind, text, refused=True)
        return "refused", text

    def end(self, verdict: Verdict, conclusion: str) -> tuple[Verdict, str]:
        return verdict, conclusion

    def done(self, text: str) -> tuple[Verdict, str]:
        self.say("backend", text)
        return "arrives", text

    def network(self, whose: Owner) -> str:
        return (
            f"network {self.rows.network_name(whose.network_id)}" if whose.network_id else "the nodes' pool"
        )

    def choose(self, backends: Backends, how: str) -> None:
        """Which tasks a destination of several leads to."""
        names = [f"{task.name} ({address})" for task, address in backends]
        if len(backends) == 1:
            self.say("backend", f"the only task of it that is up is {names[0]}")
            return
        count = len(backends)
        self.say("backend", f"{count} tasks of it are up, each gets 1 in {count} {how}: {listed(names)}")

    def arrive(self, backends: Backends, *, back: str = "") -> tuple[Verdict, str]:
        """The last part of the way to each of them.  ``back``: what is to be said of the answers."""
        lost = [task for task, address in backends[:MOST] if not self._route(task, address)]
        if back:
            self.say("route", back)
        if lost:
            return "refused", f"{lost[0].name} is on a node that is down"
        port = f" on port {self.to.port}/{self.to.protocol}" if self.to.port and not back else ""
        names = listed(list(dict.fromkeys(task.name for task, _ in backends)))
        some = f"one of {names}" if ", " in names else names
        return "arrives", f"{some} gets it{port}, if something listens there"

    def _route(self, task: Task, address: str) -> bool:
        if task.id == self.source.id:
            self.say("route", f"{address}: the source itself; its node leads the packet back to it")
            return True
        if task.node_id == self.source.node_id:
            self.say("route", f"{address}: on the same node, {self.rows.hostname(task.node_id)}; no overlay")
            return True
        node = self.rows.nodes.get(task.node_id)
        name = self.rows.hostname(task.node_id)
        if node is None or node.status.state is NodeState.DOWN:
            self.say("route", f"{address}: on {name}, which is down", refused=True)
            return False
        way = "through the overlay (vx0)", "4789/udp"
        if self.rows.is_encrypted(task, address):
            way = "encrypted (sx0)", "4790/tcp"
        self.say("route", f"{address}: {way[0]} to {name} at {node.status.address}, {way[1]}")
        return True
