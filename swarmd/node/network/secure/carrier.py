"""The process that carries frames of encrypted networks: out of the device into TLS, and back.

A process of its own, because each frame costs Python some time that the daemon's other work must not wait
for.  It reads :class:`Orders` from standard input and says what became of them on standard output, a line of
JSON each; it ends when its input does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from pathlib import Path

import msgspec

from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import random_fraction
from swarmd.kit.supervise import Nursery
from swarmd.node.network.core.carrying import LONGEST, Orders, Said, destination
from swarmd.node.network.core.papers import Papers
from swarmd.node.network.secure import tap
from swarmd.node.network.secure.door import Door
from swarmd.node.network.secure.streams import Stream, Streams
from swarmd.security.identity import Credentials, link_contexts

_FRAMES_A_TURN = 64
_MOST_ORDERS = 16 << 20
_RETRY_SECONDS = 1.0


class Carrier:
    """Device on one side, streams on the other."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._nursery = Nursery(self._failed)
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
        self._orders: Orders | None = None
        self._shown: Papers | None = None
        self._problem = ""
        self.streams = Streams(
            descriptor, SystemClock(), self._nursery, self._now, self._say, random_fraction
        )

        self._door = Door(
            self._nursery, self.streams.addresses, lambda: self._now()[0], lambda: Stream(self.streams)
        )

    async def run(self) -> None:
        """Obey until there are no more orders."""
        loop = asyncio.get_running_loop()
        orders = asyncio.StreamReader(limit=_MOST_ORDERS)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        loop.add_reader(self._descriptor, self._from_kernel, orders)
        while line := await orders.readline():
            await self._obey(msgspec.json.decode(line, type=Orders))
        loop.remove_reader(self._descriptor)
        self._door.close()
        await self._nursery.close()

    async def _obey(self, orders: Orders) -> None:
        self._orders = orders
        papers = orders.papers
        identity = Credentials(key=papers.key, certificate=papers.certificate, root=papers.root)
        try:
            if self._shown != papers:
                self._contexts = await asyncio.to_thread(link_contexts, identity, Path(papers.scratch))
                self._shown = papers
        except (OSError, ValueError) as error:
            self._problem = f"nothing can be carried for encrypted networks: {error}"
            self._say()
            self._nursery.start("papers", self._later(orders))
            return
        self.streams.order(orders)
        self._open(orders)

    def _open(self, orders: Orders) -> None:
        try:
            self._door.open(orders.address, orders.port)
            self._problem = ""
        except OSError as error:
            self._problem = (
                f"port {orders.port}/tcp of {orders.address} cannot be opened, so encrypted networks do not "
                f"reach this node: {error.strerror}"
            )
            self._nursery.start("secure port", self._later(orders))
        self._say()

    async def _later(self, orders: Orders) -> None:
        await asyncio.sleep(_RETRY_SECONDS)
        if self._orders is orders:
            await self._obey(orders)

    def _now(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        assert self._contexts is not None
        return self._contexts

    def _from_kernel(self, orders: asyncio.StreamReader) -> None:
        """Sort what waits by where it goes, so that each stream is written once."""
        found: dict[int, list[bytes]] = {}
        for _ in range(_FRAMES_A_TURN):
            try:
                frame = os.read(self._descriptor, LONGEST)
            except BlockingIOError:
                break
            except OSError:  # the device was deleted: whoever started us does so again
                asyncio.get_running_loop().remove_reader(self._descriptor)
                orders.feed_eof()
                return
            number = destination(frame)
            if number is not None:
                found.setdefault(number, []).append(frame)
        for number, frames in found.items():
            self.streams.send(number, frames)

    def _say(self) -> None:
        said = Said(joined=self.streams.names(), problem=self._problem)
        os.write(sys.stdout.fileno(), msgspec.json.encode(said) + b"\n")

    def _failed(self, name: str, error: BaseException) -> None:
        self._problem = f"{name}: {error!r}"
        self._say()


def main() -> None:
    """``python -m swarmd.node.network.secure.carrier [DEVICE]``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = tap.open_device(*sys.argv[1:2])
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Carrier(descriptor).run())
    except ImportError:
        asyncio.run(Carrier(descriptor).run())


if __name__ == "__main__":
    main()
