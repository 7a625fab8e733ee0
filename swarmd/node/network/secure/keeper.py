"""Keeps the carrier of this node running and told: see :mod:`swarmd.node.network.secure.carrier`."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import msgspec

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery
from swarmd.node.network.core.carrying import Orders, Said
from swarmd.node.network.secure import tap

COMMAND = (sys.executable, "-P", "-m", "swarmd.node.network.secure.carrier")
"""-P: modules come from where Python is installed, not from the directory the daemon was started in."""

_FIRST_RETRY, _LAST_RETRY = 0.2, 5.0
_END_SECONDS = 2.0
_LINE_BYTES = 1 << 20


class CarrierKeeper:
    """Of several orders that wait the newest counts.  Without any nothing runs."""

    def __init__(self, clock: Clock, nursery: Nursery, *, device: str = tap.DEVICE) -> None:
        self._clock = clock
        self._nursery = nursery
        self._device = device
        self._orders: Orders | None = None
        self._news = asyncio.Event()
        self._running: asyncio.Task[object] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._said = Said()
        self._trouble = ""

    def order(self, orders: Orders) -> None:
        """Do this from now on, and go on doing it when the carrier dies."""
        if orders == self._orders:
            return
        self._orders = orders
        self._news.set()
        if self._running is None:
            self._running = self._nursery.start("carrier", self._keep())

    def problems(self) -> tuple[str, ...]:
        return tuple(text for text in (self._trouble, self._said.problem) if text)

    async def stop(self) -> None:
        """Carry no more."""
        running, self._running, self._orders = self._running, None, None
        if running is not None:
            running.cancel()
            await asyncio.wait((running,))
        await self._end()

    async def _keep(self) -> None:
        wait = _FIRST_RETRY
        while True:
            started = self._clock.monotonic()
            try:
                await self._run()
                why = "it ended"
            except OSError as error:
                why = error.strerror or str(error)
            except ValueError as error:  # it was killed in the middle of a line
                why = str(error)
            self._said = Said()
            self._trouble = f"what carries frames of encrypted networks is started again: {why}"
            wait = _FIRST_RETRY if self._clock.monotonic() - started > _LAST_RETRY else wait
            await self._clock.sleep(wait)
            wait = min(2 * wait, _LAST_RETRY)

    async def _run(self) -> None:
        """One life of the process."""
        await self._end()
        self._process = process = await asyncio.create_subprocess_exec(
            *COMMAND, self._device,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES,
        )  # fmt: skip
        telling = self._nursery.start("orders of the carrier", self._tell(process))
        try:
            assert process.stdout is not None
            while line := await process.stdout.readline():
                self._said, self._trouble = msgspec.json.decode(line, type=Said), ""
        finally:
            telling.cancel()

    async def _tell(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        self._news.set()
        with contextlib.suppress(ConnectionError):
            while True:
                await self._news.wait()
                self._news.clear()
                process.stdin.write(msgspec.json.encode(self._orders) + b"\n")
                await process.stdin.drain()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
