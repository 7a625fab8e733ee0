"""One blob from several nodes at once: ranges in parallel, written in order.

leader ──► who has it ──► chooser ──► range ──► node ──► arrived ──► written in order
               ▲              ▲ busy: others that have it now
               └── nobody is left, or all are busy for long
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn

from swarmd.kit.clock import Clock
from swarmd.kit.groups import TaskGroup
from swarmd.kit.supervise import until
from swarmd.model.errors import NotFound, SwarmError, Unavailable
from swarmd.node.distribution.core.choosing import SOURCES, Chooser, Provider
from swarmd.node.distribution.core.ranges import Range, Ranges
from swarmd.node.distribution.wire import Answer, Busy

Fetch = Callable[[Provider, Range | None], Awaitable[Answer]]
Locate = Callable[[], Awaitable[Iterable[Provider]]]
Write = Callable[[bytes], Awaitable[None]]
Told = Callable[[int, int], None]

ASK_AGAIN = 1.0
"""Seconds after which the leader is asked again who has it, longer each time."""

ASKED = 4
"""Times that nobody has it before that is believed: whoever has it may have to tell the leader first."""


class Copy:
    """The work on one blob; :meth:`run` once."""

    def __init__(
        self,
        digest: str,
        chooser: Chooser,
        *,
        fetch: Fetch,
        locate: Locate,
        write: Write,
        clock: Clock,
        told: Told,
        patience: int = ASKED,
    ) -> None:
        self._patience = patience
        self._digest = digest
        self._chooser = chooser
        self._fetch = fetch
        self._locate = locate
        self._write = write
        self._clock = clock
        self._told = told
        self._ranges: Ranges | None = None
        self._writing = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._changed = asyncio.Event()
        self._ask_at = 0.0
        self._asked = 0
        self._in_vain = 0
        self._last = ""
        self.sources: dict[str, Provider] = {}

    async def run(self) -> None:
        """Write the whole blob.

        Raises NotFound when nobody has it, Unavailable when those who have it cannot give it.
        """
        while self._ranges is None:
            await self._begin()
        if not self._ranges.is_done:
            try:
                async with TaskGroup() as group:
                    for number in range(2 * SOURCES):
                        group.create_task(self._work(), name=f"blob {self._digest[:19]} {number}")
            except ExceptionGroup as failures:
                known = failures.subgroup(SwarmError)
                raise (known or failures).exceptions[0] from failures

    async def _begin(self) -> None:
        """The first range says how many there are."""
        provider = self._chooser.take(self._clock.monotonic())
        if provider is None:
            await self._find_more()
            return
        answer = await self._try(provider, None)
        if answer is not None:
            self._ranges = Ranges(answer.size)
            first = self._ranges.next()
            if first is not None:
                self._ranges.arrived(first, answer.data)
                await self._write_ready(self._ranges)

    async def _work(self) -> None:
        ranges = self._ranges
        assert ranges is not None
        while not ranges.is_done:
            part = ranges.next()
            provider = self._chooser.take(self._clock.monotonic()) if part is not None else None
            if part is None:
                await self._until_changed(1.0)
            elif provider is None:
                ranges.back(part)
                await self._find_more()
            else:
                answer = await self._try(provider, part)
                if answer is None:
                    ranges.back(part)
                else:
                    ranges.arrived(part, answer.data)
                    await self._write_ready(ranges)
                self._note_change()

    async def _try(self, provider: Provider, part: Range | None) -> Answer | None:
        now = self._clock.monotonic
        try:
            answer = await self._fetch(provider, part)
        except Busy as busy:
            self._chooser.was_busy(provider.node_id, now())
            self._chooser.learn(busy.others)
            return None
        except NotFound:
            self._chooser.lacks(provider.node_id)
            return None
        except SwarmError as error:
            self._last = f"{provider.address}: {error}"
            self._chooser.failed(provider.node_id, now())
            return None
        self._chooser.gave(provider.node_id)
        self.sources[provider.node_id] = provider
        self._in_vain = 0
        return answer

    async def _write_ready(self, ranges: Ranges) -> None:
        async with self._writing:
            while (data := ranges.ready()) is not None:
                await self._write(data)
                self._told(ranges.written, ranges.size)

    async def _find_more(self) -> None:
        """Return when there may be somebody to ask again."""
        if self._asking.locked():
            await self._until_changed(0.5)
            return
        async with self._asking:
            now = self._clock.monotonic()
            wait = self._chooser.wait(now)
            # Also while somebody serves us: he may be slow, and others have it meanwhile.
            if wait is None or now >= self._ask_at:
                await self._ask(nobody=wait is None)
            elif self._chooser.streams:
                await self._until_changed(max(wait, 0.02))
            else:
                await self._clock.sleep(wait)
            self._note_change()

    async def _ask(self, *, nobody: bool) -> None:
        if nobody and self._in_vain >= self._patience:
            self._give_up()
        if nobody and self._in_vain:
            await self._clock.sleep(min(0.25 * 2.0**self._in_vain, 2.0))
        self._asked += 1
        found = list(await self._locate())
        self._ask_at = self._clock.monotonic() + min(ASK_AGAIN * 1.5**self._asked, 10.0)
        self._chooser.learn(found, again=nobody)
        if nobody:
            self._in_vain += 1
            if self._in_vain >= self._patience and self._chooser.wait(self._ask_at) is None:
                self._give_up()

    def _give_up(self) -> NoReturn:
        if self._last:
            raise Unavailable(f"blob {self._digest} could not be fetched: {self._last}")
        raise NotFound(f"No such blob: {self._digest}; no node that can be reached has it")

    async def _until_changed(self, limit: float) -> None:
        await until(self._clock.sleep(limit), self._changed)

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
