"""A test bed: a bridge, nodes on it and containers in them, all network namespaces of this machine.

Run as a program it is one node: it obeys calls of :class:`~swarmd.node.network.shell.Network`, one JSON
line each, so that the tests can be plain and blocking.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import SwarmError
from swarmd.node.network.port import Attachment, Backend, NetworkState, NodeView, PublishedPort

ROOT = Path(__file__).resolve().parents[2]
UDP_TIMEOUT, UDP_SECONDS = "net.netfilter.nf_conntrack_udp_timeout", 3600
T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)

SERVER = """
import asyncio, signal, socket, sys
name, port = sys.argv[1], int(sys.argv[2])
async def serve(reader, writer):
    try:
        request = await reader.readuntil(b"\\r\\n\\r\\n")
        body = f"{name} {writer.get_extra_info('peername')[0]}".encode()
        if request.startswith(b"GET /big"):
            body = b"x" * 3_000_000
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + body)
        await writer.drain()
        if request.startswith(b"GET /wait"):
            await reader.read()
    except (asyncio.IncompleteReadError, ConnectionResetError):
        pass
    finally:
        writer.close()
class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, addr):
        self.transport.sendto(f"{name} {addr[0]}".encode(), addr)
async def main():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, None, port)
    for family in (socket.AF_INET, socket.AF_INET6):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", port))
        await loop.create_datagram_endpoint(Echo, sock=sock)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def run(*command: str) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def inside(namespace: str, act: Callable[[], T]) -> T:
    """Call ``act`` on a thread in the named network namespace (or in that of a process: /proc/PID/ns/net)."""
    path = namespace if namespace.startswith("/") else f"/run/netns/{namespace}"
    out: list[T] = []
    wrong: list[BaseException] = []

    def enter() -> None:
        try:
            handle = os.open(path, os.O_RDONLY)
            result = _libc.setns(handle, 0x40000000)
            os.close(handle)
            assert result == 0
            out.append(act())
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            wrong.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if wrong:
        raise wrong[0]
    return out[0]


def ask(namespace: str, address: str, port: int, timeout: float = 30.0) -> tuple[str, str]:
    """(container, client address it saw) of one HTTP request made from ``namespace``."""

    def request() -> str:
        with socket.create_connection((address, port), timeout=timeout) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while chunk := sock.recv(4096):
                data += chunk
        return data.decode()

    answer = inside(namespace, request)
    name, client = answer.rpartition("\r\n")[2].split()
    return name, client


def ask_from(
    namespace: str, source: tuple[str, int], to: tuple[str, int], end: str, *, hold: bool = False
) -> tuple[str, str, socket.socket]:
    """(container, client address it saw, socket) of a request from the client address and port ``source``.

    ``end`` says who closes first: the server, the client, or the client with a reset.  With ``hold`` the
    connection is left open for the caller to close.
    """

    def request() -> tuple[str, socket.socket]:
        with contextlib.ExitStack() as on_error:
            kind = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
            sock = on_error.enter_context(socket.socket(kind))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(30)
            sock.bind(source)
            _connect(sock, to)
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n" if end == "server" else b"GET /wait HTTP/1.0\r\n\r\n")
            answer = sock.recv(4096)
            while end == "server" and (chunk := sock.recv(4096)):
                answer += chunk
            if end == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if hold:
                on_error.pop_all()
        return answer.decode(), sock

    answer, sock = inside(namespace, request)
    name, client = answer.rpartition("\r\n")[2].split()
    return name, client, sock


def _connect(sock: socket.socket, to: tuple[str, int]) -> None:
    """As soon as this kernel itself has done with the connection before: its last ACK may be on the way."""
    limit = time.monotonic() + 60
    while True:
        try:
            return sock.connect(to)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > limit:
                raise
        threading.Event().wait(0.01)


def eventually(check: Callable[[], bool], what: str, limit: float = 60.0) -> None:
    """Wait until ``check`` holds; it is polled, because nobody announces what the kernel did."""
    end = time.monotonic() + limit
    while not check():
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        threading.Event().wait(0.05)


class Container:
    """A network namespace with a small server on port 8000 (TCP: HTTP, UDP: echo)."""

    def __init__(self, node: Node, name: str) -> None:
        self.node, self.name, self.address, self.address6 = node, name, "", ""
        command = ["ip", "netns", "exec", node.namespace, "unshare", "--net", sys.executable, "-c", SERVER]
        self._process = subprocess.Popen([*command, name, "8000"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"
        self.pid = self._process.pid
        self.namespace = f"/proc/{self.pid}/ns/net"

    def attach(self, **more: Any) -> str:
        more.setdefault("published", [["tcp", 8000], ["udp", 8000]])
        self.address = self.node.call("attach", task_id=self.name, pid=self.pid, **more)
        known = self.node.call("attached")
        self.address6 = next(one.get("address6", "") for one in known if one["task_id"] == self.name)
        return self.address

    def backend(self, port: int = 8000) -> Backend:
        return Backend(
            task_id=self.name,
            address=self.address,
            port=port,
            node_id=self.node.view.id,
            address6=self.address6,
        )

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


class Node:
    """A node's namespace and the driver process inside it."""

    def __init__(self, bed: Bed, number: int) -> None:
        self.bed, self.namespace = bed, f"{bed.prefix}n{number}"
        self.address = f"172.30.0.{number}"
        self.view = NodeView(f"node{number}", number, self.address, f"10.128.{number}.0/24")
        wire = f"{bed.prefix}v{number}"
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        run("ip", "-n", bed.hub, "link", "add", f"p{number}", "type", "veth", "peer", wire)
        run("ip", "-n", bed.hub, "link", "set", wire, "netns", self.namespace, "name", "eth0")
        run("ip", "-n", bed.hub, "link", "set", f"p{number}", "master", "hub0", "up")
        run("ip", "-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")
        self.process = self.boot()

    def boot(self) -> subprocess.Popen[str]:
        """Start the driver, which starts the network."""
        command = ["ip", "netns", "exec", self.namespace, sys.executable, __file__, self.view.id]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **self.bed.environment},
        )  # fmt: skip
        self.can = self.call("start")
        # Half a minute by default, in which a busy machine asks no thirty questions.
        run("ip", "netns", "exec", self.namespace, "sysctl", "-qw", f"{UDP_TIMEOUT}={UDP_SECONDS}")
        return self.process

    def call(self, method: str, **arguments: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(msgspec.json.encode([method, arguments]).decode() + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the driver of {self.namespace} ended while it did {method}"
        answer = msgspec.json.decode(line)
        if "error" in answer:
            raise SwarmError(answer["error"])
        return answer["result"]

    def end(self) -> None:
        """End the driver without cleaning up, as a crash would."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def nft(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.namespace, "nft", *command)


class Bed:
    """The bridge namespace ``hub`` (172.30.0.100, the outside world) and ``count`` nodes on it."""

    def __init__(self, count: int, *, environment: dict[str, str] | None = None, name: str = "") -> None:
        self.environment = environment or {}
        self.prefix = f"sw{os.getpid()}{name}"
        self.hub = f"{self.prefix}hub"
        self.nodes: list[Node] = []
        self.containers: list[Container] = []
        self.version = 0
        self.ports: dict[tuple[str, int, str], PublishedPort] = {}
        self.dead: set[str] = set()
        try:
            self._build(count)
        except BaseException:
            self.close()
            raise

    def _build(self, count: int) -> None:
        run("ip", "netns", "add", self.hub)
        run("ip", "-n", self.hub, "link", "set", "lo", "up")
        run("ip", "-n", self.hub, "link", "add", "hub0", "type", "bridge")
        run("ip", "-n", self.hub, "address", "add", "172.30.0.100/24", "dev", "hub0")
        run("ip", "-n", self.hub, "link", "set", "hub0", "up")
        for number in range(1, count + 1):
            self.nodes.append(Node(self, number))
        for node in self.nodes:
            node.call("configure", self_node=msgspec.to_builtins(node.view))

    def container(self, number: int, name: str) -> Container:
        """A running, attached container on node ``number`` (counted from 1)."""
        made = Container(self.nodes[number - 1], name)
        self.containers.append(made)
        made.attach()
        return made

    def publish(
        self, port: int, *containers: Container | tuple[Container, int], protocol: str = "tcp", **more: Any
    ) -> None:
        """Publish ``port`` on all nodes with exactly these backends, each on port 8000 or the one beside it;
        ``more`` are fields of :class:`PublishedPort`."""
        backends = (
            one.backend() if isinstance(one, Container) else one[0].backend(one[1]) for one in containers
        )
        made = PublishedPort(
            service_id=f"s{port}", service_name=f"s{port}", protocol=protocol,  # type: ignore[arg-type]
            port=port, backends=tuple(backends),
        )  # fmt: skip
        made = msgspec.convert({**msgspec.to_builtins(made), **more}, PublishedPort)
        self.ports[protocol, port, made.host_ip] = made
        self.push()

    def state(self) -> NetworkState:
        self.version += 1
        views = tuple(msgspec.structs.replace(n.view, alive=n.view.id not in self.dead) for n in self.nodes)
        return NetworkState(version=self.version, nodes=views, ports=tuple(self.ports.values()))

    def push(self) -> None:
        state = msgspec.to_builtins(self.state())
        for node in self.nodes:
            if node.process.poll() is None:
                node.call("apply", state=state)

    def close(self) -> None:
        for container in self.containers:
            container.kill()
        for node in self.nodes:
            node.end()
        for name in (*(node.namespace for node in self.nodes), self.hub):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextlib.contextmanager
def bed(count: int, **more: Any) -> Iterator[Bed]:
    made = Bed(count, **more)
    try:
        yield made
    finally:
        made.close()


def _take_away() -> None:
    """Make this driver's machine poorer than it is."""
    from swarmd.model.errors import Unavailable
    from swarmd.node.network import ruleset, shell

    shell.CHECK_SECONDS = float(os.environ.get("SWARM_BED_KEEPER", shell.CHECK_SECONDS))
    real = ruleset.load

    async def load(text: str, *, dry_run: bool = False) -> None:
        if "SWARM_BED_NFT" in os.environ:
            raise Unavailable("the program nft is not installed; install the package nftables")
        if "SWARM_BED_DUP" in os.environ and " dup to " in text:
            raise Unavailable("nft refused the ruleset: no such expression")
        await real(text, dry_run=dry_run)

    ruleset.load = load


async def mend(network: Any) -> None:
    """What the keeper does every few seconds."""
    network._keeper._due.clear()
    if await network._broken():
        await network._again("keeper", afresh=True)


async def drive(node_id: str) -> None:
    """Obey: one call per line on standard input, one answer per line on standard output."""
    from swarmd.node.network.core.papers import Papers
    from swarmd.node.network.shell import Network

    def report(name: str, error: BaseException) -> None:
        print(f"{node_id}: {name}: {error!r}", file=sys.stderr, flush=True)

    _take_away()
    network = Network(node_id, SystemClock(), report)
    types = {"self_node": NodeView, "state": NetworkState, "attachments": tuple[Attachment, ...]}
    while line := await asyncio.to_thread(sys.stdin.readline):
        method, arguments = msgspec.json.decode(line)
        values = {k: msgspec.convert(v, types[k]) if k in types else v for k, v in arguments.items()}
        try:
            if method == "identify":
                mine = msgspec.convert(arguments["papers"], Papers)
                values = {"papers": lambda mine=mine: mine}
            result = mend(network) if method == "mend" else getattr(network, method)(**values)
            if asyncio.iscoroutine(result):
                result = await result
            print(msgspec.json.encode({"result": result}).decode(), flush=True)
        except SwarmError as error:
            print(msgspec.json.encode({"error": str(error)}).decode(), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(drive(sys.argv[1]))
