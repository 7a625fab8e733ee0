"""CPU that an answered name costs: our name service, dnsmasq with the same names, and an echo of datagrams.

Each serves a process of its own the same containers (network namespaces) and is asked the same questions over
UDP, from inside them, in turns.  What is counted is the CPU time of the serving process alone, from the
kernel's own accounts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop

from swarmd.kit.clock import SystemClock
from swarmd.node.dns.resolver import Resolver
from swarmd.node.network.namespace import inside, open_namespace
from swarmd.node.network.port import Endpoint, NetworkState, NetworkView, ServiceView

CONTAINERS = 6
SERVICES = 2000
TASKS = 10
PEER = ("127.0.0.12", 53)
ECHO = ("127.0.0.13", 53)
OURS = ("127.0.0.11", 53)
TARGET = 50_000


class Options(msgspec.Struct, frozen=True):
    """How long to look."""

    rounds: int
    seconds: float


def address(number: int) -> str:
    return f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}"


def state() -> NetworkState:
    """2,000 services with a virtual address each, ten of them with ten tasks."""
    services = tuple(ServiceView(f"s{n}", f"service{n}", "n", (address(n),)) for n in range(SERVICES))
    tasks = tuple(
        Endpoint(
            f"{s:05}{n:020}", f"service{s}.{n}.{s:05}{n:020}", f"s{s}", n, "here", "n",
            (address(9000 + s * 100 + n),),
        )
        for s in range(10)
        for n in range(1, TASKS + 1)
    )  # fmt: skip
    return NetworkState(1, (), (), (NetworkView("n", "net", ("10.64.0.0/10",)),), services, tasks)


def hosts(data: NetworkState) -> str:
    """The same names for dnsmasq."""
    lines = [f"{service.addresses[0]} {service.name}" for service in data.services]
    lines += [f"{task.addresses[0]} tasks.{task.name.partition('.')[0]}" for task in data.endpoints]
    return "\n".join([*lines, ""])


SERVICES_IN_TURN = [f"service{n}" for n in range(SERVICES)]
LOADS = (
    ("2,000 services in turn, 16 questions under way from each container", SERVICES_IN_TURN, 16),
    ("the same, one at a time", SERVICES_IN_TURN, 1),
    ("tasks.*, ten addresses, 16 under way", [f"tasks.service{n}" for n in range(10)], 16),
)


def question(name: str) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._send = transport.sendto  # type: ignore[attr-defined]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._send(data, addr)


async def serve(pids: list[int]) -> None:
    """Be our name service for the containers with these processes until standard input ends."""
    resolver = Resolver(SystemClock(), lambda name, error: print(name, error, file=sys.stderr), settings=str)
    resolver.update(state())
    for number, pid in enumerate(pids):
        await resolver.open(f"c{number}", pid, (("n", (address(8000 + number),)),))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await resolver.stop()


async def echo(pids: list[int]) -> None:
    """The floor: the same loop, and no names."""
    for pid in pids:
        handle = open_namespace(pid)
        sock = inside(handle, _echo_socket)
        os.close(handle)
        await asyncio.get_running_loop().create_datagram_endpoint(Echo, sock=sock)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)


def _echo_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind(ECHO)
    return sock


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in files) / 1e9


class Load(msgspec.Struct, frozen=True):
    """What to ask of whom, with so many questions under way at once."""

    to: tuple[str, int]
    names: list[str]
    window: int
    seconds: float


def ask(load: Load) -> int:
    """How many answers came."""
    questions = [question(name) for name in load.names]
    count = sent = 0
    until = time.monotonic() + load.seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(load.to)
        sock.settimeout(0.2)
        while time.monotonic() < until:
            for _ in range(load.window):
                sock.send(questions[sent % len(questions)])
                sent += 1
            with contextlib.suppress(TimeoutError):  # one was lost: go on with the next
                for _ in range(load.window):
                    sock.recv(4096)
                    count += 1
    return count


def obey() -> None:
    """Inside a container: a load per line of standard input."""
    for line in sys.stdin:
        print(ask(msgspec.json.decode(line, type=Load)), flush=True)


class Container:
    """A network namespace, and the process in it that asks."""

    def __init__(self) -> None:
        act = f"ip link set lo up && exec {sys.executable} -m benchmarks.bench_dns --obey"
        self._process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", act], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.begin(Load(to=ECHO, names=["up"], window=0, seconds=0))
        self.end()
        self.pid = self._process.pid

    def begin(self, load: Load) -> None:
        assert self._process.stdin
        self._process.stdin.write(msgspec.json.encode(load).decode() + "\n")
        self._process.stdin.flush()

    def end(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@contextlib.contextmanager
def containers(count: int) -> Iterator[list[Container]]:
    made = [Container() for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            each.close()


@contextlib.contextmanager
def server(what: str, pids: list[int]) -> Iterator[list[int]]:
    """One of our two servers in a process of its own; answers the ids of the processes that serve."""
    command = [sys.executable, "-m", "benchmarks.bench_dns", f"--{what}", *map(str, pids)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the {what} server did not start")
        yield [process.pid]
    finally:
        process.communicate()


@contextlib.contextmanager
def dnsmasq(pids: list[int]) -> Iterator[list[int]]:
    """One dnsmasq in each container, where ours is one process for all of them."""
    with tempfile.TemporaryDirectory() as directory:
        names = Path(directory) / "hosts"
        names.write_text(hosts(state()))
        Path(directory).chmod(0o755)
        made = [
            subprocess.Popen(
                ["nsenter", f"--net=/proc/{pid}/ns/net", "dnsmasq", "--keep-in-foreground", "--no-resolv",
                 "--no-hosts", f"--addn-hosts={names}", "--conf-file=/dev/null", "--bind-interfaces",
                 f"--listen-address={PEER[0]}", "--pid-file=", "--user=root", "--local-ttl=600"]
            )
            for pid in pids
        ]  # fmt: skip
        try:
            yield [each.pid for each in made]
        finally:
            for each in made:
                each.send_signal(signal.SIGTERM)
                each.wait()


def cost(boxes: list[Container], load: Load, serving: list[int]) -> float:
    """Microseconds of CPU of the ``serving`` processes per answer, while all containers ask."""
    before = sum(map(cpu_seconds, serving))
    for box in boxes:
        box.begin(load)
    answers = sum([box.end() for box in boxes])
    return (sum(map(cpu_seconds, serving)) - before) / answers * 1e6


def wait_for(boxes: list[Container], to: tuple[str, int]) -> None:
    """Return when everybody is answered."""
    for box in boxes:
        while True:
            box.begin(Load(to=to, names=["service0"], window=1, seconds=0.05))
            if box.end():
                break


def measure(options: Options) -> None:
    with containers(CONTAINERS) as boxes:
        pids = [box.pid for box in boxes]
        with server("serve", pids) as ours, server("echo", pids) as floor, dnsmasq(pids) as theirs:
            sides = {OURS: ours, PEER: theirs, ECHO: floor}
            for to in sides:
                wait_for(boxes, to)
            print("| what | ours, us | answers per CPU second | ÷ dnsmasq | ÷ echo |\n|---|---|---|---|---|")
            for title, names, window in LOADS:
                taken: dict[tuple[str, int], list[float]] = {to: [] for to in sides}
                for _ in range(options.rounds):
                    for to, serving in sides.items():
                        load = Load(to, names, window, options.seconds)
                        taken[to].append(cost(boxes, load, serving))
                mine, peer, least = (statistics.median(taken[to]) for to in sides)
                rate = f"{1e6 / mine:.0f} (bar {TARGET})"
                print(
                    f"| {title} | {mine:.1f} | {rate} | {mine / peer:.2f} | {mine / least:.2f} |", flush=True
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each load in each round")
    parser.add_argument("--obey", action="store_true", help=argparse.SUPPRESS)
    for server_of in ("serve", "echo"):
        parser.add_argument(f"--{server_of}", type=int, nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.obey:
        obey()
    elif chosen.serve:
        uvloop.run(serve(chosen.serve))
    elif chosen.echo:
        uvloop.run(echo(chosen.echo))
    else:
        measure(Options(chosen.rounds, chosen.seconds))


if __name__ == "__main__":
    sys.exit(main())
