"""The network: what a request costs on each way to a task, and what a change costs in a large swarm.

Two nodes, a client and nginx in network namespaces of this machine.  A figure is the CPU time of everything
that takes part (client, servers, proxies, kernel) for one request, beside a connection straight to the
container made in the same round: rates say nothing on a machine with other work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from swarmd.node.network.core.rules import TABLE
from tests.integration.network_bed import Bed, Container, bed, eventually, run

_ACCOUNTS = (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup"))
_TARGET = 80
_UNKEPT = {"SWARM_BED_KEEPER": "100000"}
"""Nobody mends what this adds to the rules."""
_NGINX = """
daemon off; master_process off; pid {directory}/{name}.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{ listen 80; location / {{ return 200 "hello\\n"; }} }}
}}
"""
_HAPROXY = """
global
  maxconn 2000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen it
  bind 0.0.0.0:{port}
  server one {address}:80
"""
_BARE = """
table ip bare {{
  chain came {{ type nat hook prerouting priority dstnat;
    ip daddr {front} tcp dport 81 dnat to {near}:80
    ip daddr {front} tcp dport 82 dnat to {far}:80
  }}
  chain leaves {{ type nat hook postrouting priority srcnat; oifname "vx0" masquerade; }}
}}
"""
"""The least that publishes two ports by way of the same devices: no rule of swarmd, and connection tracking
on the first node only, since the client's address is lost."""


class Account:
    """The CPU time of this process and of everything it starts."""

    def __init__(self) -> None:
        root = next(path for path in _ACCOUNTS if (path / "cgroup.procs").exists())
        self._path = root / f"swarmd-bench-{os.getpid()}"
        self._path.mkdir()
        (self._path / "cgroup.procs").write_text(str(os.getpid()))
        self._outside = root

    def seconds(self) -> float:
        usage = self._path / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        return int((self._path / "cpu.stat").read_text().split()[1]) / 1e6

    def close(self) -> None:
        (self._outside / "cgroup.procs").write_text(str(os.getpid()))
        with contextlib.suppress(OSError):
            self._path.rmdir()


class Ways:
    """A container with nginx on each of two nodes, and every way to them."""

    def __init__(self, made: Bed, directory: Path) -> None:
        self.bed = made
        self._directory = directory
        self._started: list[subprocess.Popen[bytes]] = []
        self.near, self.far = (self._nginx(made.container(number, f"c{number}")) for number in (1, 2))
        for number, container in ((1, self.near), (2, self.far)):
            node = made.nodes[number - 1]
            run("ip", "-n", made.hub, "route", "add", f"{container.address}/32", "via", node.address)

    def _nginx(self, container: Container) -> Container:
        container.attach(published=[["tcp", _TARGET]])
        config = self._directory / f"{container.name}.conf"
        config.write_text(_NGINX.format(directory=self._directory, name=container.name))
        self._start("nsenter", f"--net={container.namespace}", "nginx", "-c", str(config))
        return container

    def _start(self, *command: str) -> None:
        self._started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))

    def publish(self, port: int, container: Container) -> None:
        """Publish nginx of one container."""
        self.bed.publish(port, container)
        key = ("tcp", port, "")
        (backend,) = self.bed.ports[key].backends
        backends = (msgspec.structs.replace(backend, port=_TARGET),)
        self.bed.ports[key] = msgspec.structs.replace(self.bed.ports[key], backends=backends)
        self.bed.push()

    def haproxy(self, port: int, container: Container) -> None:
        config = self._directory / f"haproxy{port}.cfg"
        config.write_text(_HAPROXY.format(port=port, address=container.address))
        self._start("ip", "netns", "exec", self.bed.nodes[0].namespace, "haproxy", "-f", str(config))

    def docker_proxy(self, port: int, container: Container) -> None:
        self._start(
            "ip", "netns", "exec", self.bed.nodes[0].namespace,
            "sh", "-c", 'exec docker-proxy "$@" 3>/dev/null', "sh",  # it reports to its parent there
            "-proto", "tcp",
            "-host-ip", "0.0.0.0", "-host-port", str(port),
            "-container-ip", container.address, "-container-port", str(_TARGET),
        )  # fmt: skip

    def open_directly(self, container: Container) -> None:
        """Let the outside world in by the container's own address, which the rules refuse."""
        container.node.nft(
            "add", "rule", "ip", TABLE, "c_fwd", "index", "1", "ip", "daddr", container.address, "accept"
        )  # fmt: skip

    def bare(self) -> None:
        """Put the least of rules in the place of swarmd's."""
        front, back = self.bed.nodes
        for node in (front, back):
            node.nft("flush", "ruleset")
        text = _BARE.format(front=front.address, near=self.near.address, far=self.far.address)
        rules = self._directory / "bare.nft"
        rules.write_text(text)
        front.nft("-f", str(rules))

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


class Figure(msgspec.Struct, frozen=True):
    """Requests, microseconds of CPU for each."""

    requests: int
    cost: float


def load(ways: Ways, account: Account, url: str, seconds: int, *, close: bool) -> Figure:
    """Ask with wrk from the outside world.  Raises AssertionError when a request fails."""
    header = ["-H", "Connection: close"] if close else []
    before = account.seconds()
    text = run(
        "ip", "netns", "exec", ways.bed.hub, "wrk", "-t1", "-c32", f"-d{seconds}s", *header, url
    )  # fmt: skip
    spent = account.seconds() - before
    assert not re.search("Socket errors|Non-2xx", text), f"{url}: {text}"
    requests = int(re.search(r"(\d+) requests in", text).group(1))  # type: ignore[union-attr]
    return Figure(requests, spent / requests * 1e6)


class Way(msgspec.Struct, frozen=True):
    """One of the ways of a bed; ``beside``: the name of the one it is compared with."""

    ways: Ways
    url: str
    beside: str


def compare(paths: dict[str, Way], account: Account, rounds: int, seconds: int) -> None:
    """A table: the cost of each way and, round by round, its ratio to the one it is compared with: median,
    and between which two the middle half of the rounds lies.  Every other round goes the other way about."""
    for close in (True, False):
        taken: dict[str, list[float]] = {name: [] for name in paths}
        for way in paths.values():
            load(way.ways, account, way.url, 1, close=close)  # nobody's first connections count
        for turn in range(rounds):
            for name in list(paths) if turn % 2 else reversed(paths):
                cost = load(paths[name].ways, account, paths[name].url, seconds, close=close).cost
                taken[name].append(cost)
        kind = "a connection each" if close else "keep-alive"
        for name, costs in taken.items():
            ratios = [one / two for one, two in zip(costs, taken[paths[name].beside], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            figures = f"{statistics.median(costs):.0f} µs | {middle:.2f} | {low:.2f} to {high:.2f}"
            say(f"| {name}, {kind} | {figures} |")


@contextlib.contextmanager
def published(directory: Path, name: str) -> Iterator[tuple[Ways, dict[str, str]]]:
    """Two nodes with a published port each; answers the URLs of both ports and of both containers."""
    directory.mkdir()
    with bed(2, name=name, environment=_UNKEPT) as made, contextlib.closing(Ways(made, directory)) as ways:
        ways.publish(81, ways.near)
        ways.publish(82, ways.far)
        for container in (ways.near, ways.far):
            ways.open_directly(container)
        front = made.nodes[0].address
        urls = {
            "direct, near": f"http://{ways.near.address}/",
            "published, near": f"http://{front}:81/",
            "direct, far": f"http://{ways.far.address}/",
            "published, far": f"http://{front}:82/",
        }
        yield ways, urls


def kernel(directory: Path, account: Account, rounds: int, seconds: int) -> None:
    """Published ports by nftables, on the node of the task and by way of another, and the same by the least
    of rules that a kernel needs for it."""
    with published(directory / "b", "b") as (ways, urls), published(directory / "k", "k") as (bare, same):
        bare.bare()
        paths = {name: Way(ways, url, f"direct, {name[-4:].strip(' ,')}") for name, url in urls.items()}
        for name, url in same.items():
            paths[f"bare kernel: {name}"] = Way(bare, url, paths[name].beside)
        ready(paths)
        compare(paths, account, rounds, seconds)


def proxies(directory: Path, account: Account, rounds: int, seconds: int) -> None:
    """The user-space proxy beside those of others."""
    environment = {"SWARM_BED_NFT": "missing"}
    with bed(2, name="p", environment=environment) as made, contextlib.closing(Ways(made, directory)) as ways:
        ways.publish(81, ways.near)
        ways.haproxy(83, ways.near)
        ways.docker_proxy(84, ways.near)
        front = made.nodes[0].address
        urls = {
            "direct": f"http://{ways.near.address}/",
            "proxy of swarmd": f"http://{front}:81/",
            "HAProxy": f"http://{front}:83/",
            "docker-proxy": f"http://{front}:84/",
        }
        paths = {name: Way(ways, url, "direct") for name, url in urls.items()}
        ready(paths)
        compare(paths, account, rounds, seconds)


def ready(paths: dict[str, Way]) -> None:
    def answers(way: Way) -> bool:
        command = ["ip", "netns", "exec", way.ways.bed.hub, "curl", "-sf", "-m1", way.url]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    for name, way in paths.items():
        eventually(lambda way=way: answers(way), name)  # type: ignore[misc]


def say(text: str) -> None:
    print(text, flush=True)


PARTS: dict[str, Callable[[Path, Account, int, int], None]] = {"kernel": kernel, "proxies": proxies}


@contextlib.contextmanager
def counted() -> Iterator[Account]:
    account = Account()
    try:
        yield account
    finally:
        account.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--only", choices=PARTS)
    options = parser.parse_args()
    missing = [name for name in ("wrk", "nginx", "haproxy", "docker-proxy") if not shutil.which(name)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    say("| way | CPU of a request | × direct | middle half |\n|---|---|---|---|")
    with counted() as account, tempfile.TemporaryDirectory() as directory:
        for name, part in PARTS.items():
            if options.only in (None, name):
                part(Path(directory), account, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
