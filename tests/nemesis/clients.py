"""Clients that write, swap, read, add, remove and list through whatever manager answers, and note what came.

Registers are labels: of services, written only if the service is still the one that was read; of nodes,
written whatever they were.  The set is the services themselves.  Registers are given up for fresh ones after
a while, which keeps each history short enough to be searched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from tests.nemesis.history import OPEN, History, Kind, Operation, Outcome
from tests.nemesis.manager import VALUE, CallFailed, Manager

REGISTERS = 3
"""Of each sort at a time."""

ROTATE_SECONDS = 15.0
PAUSE_SECONDS = 0.1
KEPT = 0.15
"""Share of the elements that are never removed."""

_MOST_ELEMENTS = 60

Answer = dict[str, str] | tuple[str, ...] | str | None


class Clients:
    """All clients, in one event loop; they stop when ``stop`` is set."""

    def __init__(self, history: History, managers: dict[str, Manager], seed: int) -> None:
        self._history = history
        self._managers = managers
        self._rng = Random(f"clients/{seed}")
        self._numbers = 0
        self._removable: list[str] = []
        self.swapped: list[str] = []
        """Services with a register, all that there ever were."""
        self.labelled: list[str] = []
        """``node/label`` of each register on a node."""
        self.stop = asyncio.Event()

    # -- registers -----------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Fresh registers: a service is taken once it is known to exist."""
        while not self.stop.is_set():
            number = self._number()
            for sort in range(REGISTERS):
                nodes = sorted(self._managers)
                self.labelled.append(f"{nodes[sort % len(nodes)]}/label-{number}-{sort}")
                await self._add("prepare", f"register-{number}-{sort}", self.swapped)
            await self._pause(ROTATE_SECONDS)

    async def _add(self, client: str, name: str, known: list[str]) -> None:
        async def create(manager: Manager) -> Answer:
            await manager.create(name)
            return None

        if await self._do(client, "add", name, create) == "ok":
            known.append(name)

    # -- one client ----------------------------------------------------------------------------------

    async def work(self, client: str) -> None:
        """Until told to stop: something, a breath, and again."""
        while not self.stop.is_set():
            kind = self._rng.choices(("swap", "write", "look", "list", "add", "remove"), (5, 4, 4, 2, 2, 2))[
                0
            ]
            if kind == "swap" and self.swapped:
                await self._swap(client, self._rng.choice(self.swapped[-REGISTERS:]))
            elif kind == "write":
                await self._write(client, self._rng.choice(self.labelled[-REGISTERS:]))
            elif kind == "look":
                await self.read(client, self._rng.choice(self.labelled[-REGISTERS:]))
            elif kind == "list":
                await self.list(client)
            elif kind == "add" and len(self._removable) < _MOST_ELEMENTS:
                await self._add_element(client)
            elif kind == "remove" and self._removable:
                await self._remove(client)
            await self._pause(self._rng.uniform(0.5, 1.5) * PAUSE_SECONDS)

    async def _swap(self, client: str, name: str) -> None:
        found = []

        async def look(manager: Manager) -> Answer:
            found.append(await manager.service(name))
            return str(found[0].spec.labels.get(VALUE, ""))

        await self._do(client, "read", name, look)
        if not found:
            return
        value = f"v{self._number()}"

        async def swap(manager: Manager) -> Answer:
            await manager.swap(found[0], value)
            return None

        await self._do(client, "swap", name, swap, value, str(found[0].spec.labels.get(VALUE, "")))

    async def _write(self, client: str, key: str) -> None:
        node, _, label = key.partition("/")
        value = f"v{self._number()}"

        async def write(manager: Manager) -> Answer:
            await manager.label(node, label, value)
            return None

        await self._do(client, "write", key, write, value)

    async def read(self, client: str, key: str, at: str = "") -> bool:
        """Read one register on a node; whether that was answered."""
        node, _, label = key.partition("/")

        async def look(manager: Manager) -> Answer:
            return str((await manager.labels(node)).get(label, ""))

        return await self._do(client, "read", key, look, at=at) == "ok"

    # -- the set -------------------------------------------------------------------------------------

    async def _add_element(self, client: str) -> None:
        kept: list[str] = []
        await self._add(
            client, f"element-{self._number()}", kept if self._rng.random() < KEPT else self._removable
        )

    async def _remove(self, client: str) -> None:
        name = self._removable.pop(self._rng.randrange(len(self._removable)))

        async def remove(manager: Manager) -> Answer:
            await manager.remove(name)
            return None

        await self._do(client, "remove", name, remove)

    async def list(self, client: str, at: str = "") -> bool:
        """List all services: the whole set, and every register on a service; whether that was answered."""

        async def look(manager: Manager) -> Answer:
            services = await manager.services()
            values.update({each.spec.name: str(each.spec.labels.get(VALUE, "")) for each in services})
            return tuple(each.spec.name for each in services)

        values: dict[str, str] = {}
        known = list(self.swapped)
        if await self._do(client, "list", "", look, at=at) != "ok":
            return False
        listed = self._history.operations[-1]
        for name in known if at else known[-REGISTERS:]:
            if name in values:
                self._history.add(_one_of(listed, name, values[name]))
        return True

    # -- recording -----------------------------------------------------------------------------------

    async def _do(
        self,
        client: str,
        kind: Kind,
        key: str,
        call: Callable[[Manager], Awaitable[Answer]],
        value: str = "",
        expected: str = "",
        *,
        at: str = "",
    ) -> Outcome:
        node = at or self._somewhere(client)
        began = self._history.now()
        outcome, answer, said = "ok", None, ""  # type: tuple[Outcome, Answer, str]
        try:
            answer = await call(self._managers[node])
        except CallFailed as error:
            outcome, said = error.outcome, str(error)
        ended = self._history.now()
        self._history.add(
            Operation(
                client=client,
                manager=node,
                kind=kind,
                key=key,
                invoked=began,
                returned=OPEN if outcome == "unknown" else ended,
                outcome=outcome,
                value=answer if isinstance(answer, str) else value,
                expected=expected,
                listed=answer if isinstance(answer, tuple) else (),
                said=said,
            )
        )
        if outcome != "ok":
            await self._pause(2 * PAUSE_SECONDS)
        return outcome

    def _somewhere(self, client: str) -> str:
        """Mostly the client's own manager, now and then another one."""
        nodes = sorted(self._managers)
        if self._rng.random() < 0.3:
            return self._rng.choice(nodes)
        return nodes[sum(client.encode()) % len(nodes)]

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def _one_of(listed: Operation, name: str, value: str) -> Operation:
    """The read of one register that a list contains."""
    return Operation(
        client=listed.client,
        manager=listed.manager,
        kind="read",
        key=name,
        invoked=listed.invoked,
        returned=listed.returned,
        outcome="ok",
        value=value,
    )
