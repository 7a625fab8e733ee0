"""A node and a container, two network namespaces, and the name service between them.

The service runs on a thread of this process that has entered the node's namespace; so does a name server
of the outside world, at 127.0.0.53 there, whose answers are scripted by name.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import fcntl
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import uvloop

from swarmd.kit.clock import SystemClock
from swarmd.node.dns.resolver import Resolver
from swarmd.node.network.port import NetworkState
from tests.integration.network_bed import inside
from tests.unit.dns_rig import read, reply

T = TypeVar("T")
SERVER = "127.0.0.53"
SILENT = "127.0.0.54"
_SIOCGSKNS = 0x894C
_libc = ctypes.CDLL(None, use_errno=True)


class Outside(asyncio.DatagramProtocol):
    """Answers ``NAME`` as ``script`` says, others with "does not exist"; counts what it was asked."""

    def __init__(self) -> None:
        self.script: dict[str, Callable[[bytes], bytes]] = {}
        self.asked: list[tuple[str, str]] = []

    def answer(self, question: bytes, *, by: str) -> bytes:
        name = read(question).question[0]
        self.asked.append((by, name))
        return self.script.get(name, lambda asked: reply(asked, code=3))(question)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        made = self.answer(data, by="udp")
        if len(made) > 512:
            made = made[:2] + bytes([made[2] | 2, made[3]]) + b"\0\1" + bytes(6) + data[12:]
        if made:
            self._transport.sendto(made, addr)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            size = int.from_bytes(await reader.readexactly(2), "big")
            made = self.answer(await reader.readexactly(size), by="tcp")
            writer.write(len(made).to_bytes(2, "big") + made)
            await writer.drain()
        writer.close()


class Silent(asyncio.DatagramProtocol):
    """Hears, and says nothing."""

    def __init__(self, heard: list[str]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._heard.append(read(data).question[0])


class Clock(SystemClock):
    """The machine's, with ``ahead`` seconds more."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def held_of(pid: int) -> int:
    """How many descriptors lead from this process to the network namespace of that one, sockets or not."""
    namespace = os.stat(f"/proc/{pid}/ns/net")
    return sum(_leads_to(number, namespace) for number in map(int, os.listdir("/proc/self/fd")))


def _leads_to(number: int, namespace: os.stat_result) -> bool:
    with contextlib.suppress(OSError):  # it was closed meanwhile
        if os.path.samestat(os.fstat(number), namespace):
            return True
    with contextlib.suppress(OSError):  # it is no socket either
        found = fcntl.ioctl(number, _SIOCGSKNS)
        try:
            return os.path.samestat(os.fstat(found), namespace)
        finally:
            os.close(found)
    return False


class Guest:
    """A process in a network namespace of its own, with an address (without one the C library asks for none):
    a container without the rest."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [
                "unshare",
                "--net",
                "sh",
                "-c",
                "ip link set lo up && ip address add 10.0.5.11 dev lo && echo ready && exec sleep 600",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"
        self.pid = self._process.pid
        self.namespace = f"/proc/{self.pid}/ns/net"

    def run(self, *command: str) -> str:
        """What a program in the container says."""
        done = subprocess.run(
            ["nsenter", f"--net={self.namespace}", *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.stdout + done.stderr

    def dig(self, *words: str) -> list[str]:
        """The short answer of dig, in order of text."""
        return sorted(self.run("dig", "@127.0.0.11", "+short", "+tries=1", "+timeout=20", *words).split())

    def inside(self, act: Callable[[], T]) -> T:
        return inside(self.namespace, act)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


class Bed:
    """``settings`` is the node's resolv.conf."""

    def __init__(self) -> None:
        self.settings = f"nameserver {SERVER}\n"
        self.reports: list[str] = []
        self.outside = Outside()
        self.ignored: list[str] = []
        self.clock = Clock()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._ready: concurrent.futures.Future[Resolver] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._live, name="node")
        self._thread.start()
        self.resolver = self._ready.result(timeout=60)

    def _live(self) -> None:
        try:
            if _libc.unshare(0x40000000):
                raise OSError(ctypes.get_errno(), "unshare")
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            uvloop.run(self._serve())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        udp, _ = await self._loop.create_datagram_endpoint(lambda: self.outside, local_addr=(SERVER, 53))
        tcp = await asyncio.start_server(self.outside.serve, SERVER, 53)
        silent, _ = await self._loop.create_datagram_endpoint(
            lambda: Silent(self.ignored), local_addr=(SILENT, 53)
        )
        resolver = Resolver(
            self.clock,
            lambda name, error: self.reports.append(f"{name}: {error!r}"),
            settings=lambda: self.settings,
        )
        self._ready.set_result(resolver)
        await self._stop.wait()
        await resolver.stop()
        udp.close()
        silent.close()
        tcp.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the node do it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def update(self, state: NetworkState) -> None:
        async def update() -> None:
            self.resolver.update(state)

        self.do(update())

    @contextlib.contextmanager
    def other_settings(self, text: str) -> Iterator[None]:
        """The node has another resolv.conf for a time, and what was remembered of the old one is over."""
        before, self.settings = self.settings, text
        self.clock.ahead += 60
        try:
            yield
        finally:
            self.settings = before
            self.clock.ahead += 60

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@contextlib.contextmanager
def dns_bed() -> Iterator[Bed]:
    made = Bed()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def guest() -> Iterator[Guest]:
    made = Guest()
    try:
        yield made
    finally:
        made.end()


def with_resolv_conf(where: Path, text: str, *command: str) -> list[str]:
    """A command that sees ``text`` as its /etc/resolv.conf; ``where`` is a directory for that file."""
    path = where / "resolv.conf"
    path.write_text(text)
    act = f"mount --bind {path} /etc/resolv.conf && exec {' '.join(command)}"
    return ["unshare", "--mount", "sh", "-c", act]
