"""Rolling updates under load: how many requests fail, with connections kept and with one for each request.

A real swarm of three, nginx in four tasks behind a port of their own and behind a shared one (the HTTP
router's).  wrk asks every node at once, on both ports, without a pause, while the service is updated again
and again from one image to another.  The aim is that no request fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.bench_news import swarm_of_three
from benchmarks.bench_swarm import IMAGES, Swarm, create, running, update, wait
from swarmd.cli.client import Client
from swarmd.cli.errors import CliError
from swarmd.model.spec import ContainerSpec, PortSpec, ServiceSpec, TaskTemplate, UpdateConfig
from swarmd.rpc.v1 import control_pb2 as pb

NAME = "updates"
REPLICAS = 4
OWN, SHARED, HOST = 80, 8080, "app.example.com"
AIM = 200_000
DRAIN = 30.0
"""Kept connections have so long to end; nginx ends each after a thousand requests."""


class Way(msgspec.Struct, frozen=True):
    """One kind of load: a port, connections kept or not, and how many from each wrk."""

    name: str
    port: int
    kept: bool
    connections: int


WAYS = (
    Way("a port of its own, connections kept", OWN, True, 4),
    Way("a port of its own, a connection each", OWN, False, 2),
    Way("a shared port, connections kept", SHARED, True, 2),
    Way("a shared port, a connection each", SHARED, False, 2),
)


class Count(msgspec.Struct, frozen=True):
    """Requests answered, and failures of any kind, in wrk's words."""

    requests: int
    failed: int
    words: str = ""


def spec(turn: int) -> ServiceSpec:
    image = "nginx:1.12" if turn % 2 == 0 else "nginx:1.13"
    return ServiceSpec(
        name="web",
        replicas=REPLICAS,
        template=TaskTemplate(container=ContainerSpec(image=image), drain_timeout=DRAIN),
        update=UpdateConfig(parallelism=2, monitor=0.1),
        ports=(PortSpec(target=80, published=OWN), PortSpec(target=80, published=SHARED, host=HOST)),
    )


def ask(way: Way, address: str) -> subprocess.Popen[str]:
    # What asks must not keep the processor from what answers: no swarm is that short of machines.
    words = [
        "nice",
        "-n19",
        "wrk",
        "-t1",
        f"-c{way.connections}",
        "-d3600s",
        "--timeout",
        "10s",
        "-H",
        f"Host: {HOST}",
    ]
    if not way.kept:
        words += ["-H", "Connection: close"]
    return subprocess.Popen(
        [*words, f"http://{address}:{way.port}/"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def counted(text: str) -> Count:
    """What wrk says at its end.  Raises ValueError when it says nothing."""
    total = re.search(r"(\d+) requests in", text)
    if total is None:
        raise ValueError(f"wrk said: {text}")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    status = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    found = [int(number) for one in (errors, status) if one for number in one.groups()]
    words = "; ".join(one.group(0) for one in (errors, status) if one)
    return Count(int(total.group(1)), sum(found), words)


@contextlib.contextmanager
def loaded(addresses: list[str]) -> Iterator[dict[Way, list[Count]]]:
    """Every way by every node while the block runs; the counts are there after it."""
    asking = [(way, ask(way, address)) for way in WAYS for address in addresses]
    counts: dict[Way, list[Count]] = {way: [] for way in WAYS}
    try:
        yield counts
    finally:
        for _, process in asking:
            process.send_signal(signal.SIGINT)
        for way, process in asking:
            counts[way].append(counted(process.communicate(timeout=60)[0]))


def answers(address: str) -> bool:
    def one(port: int) -> bool:
        words = ["curl", "-sf", "-m2", "-o", "/dev/null", "-H", f"Host: {HOST}", f"http://{address}:{port}/"]
        return subprocess.run(words, check=False).returncode == 0

    return one(OWN) and one(SHARED)


def replaced(client: Client) -> bool:
    """All tasks are of the newest version, no others run, and the update is over.

    Raises AssertionError when it will never be.
    """
    try:
        return _replaced(client)
    except CliError:
        return False  # there is no leader at the moment, on a machine with much else to do


def _replaced(client: Client) -> bool:
    service = client.control.GetService(pb.GetServiceRequest(ref="web")).service.service
    state, message = service.update_status.state, service.update_status.message
    tasks = client.control.ListTasks(pb.ListTasksRequest(service_id="web")).tasks
    assert state in ("", "updating", "completed"), (
        f"{state}: {message}: {[one.task.status.error for one in tasks if one.task.status.error]}"
    )
    done = running(client, "web", up_to_date=True) == running(client, "web") == REPLICAS
    return done and state != "updating"


def measure(swarm: Swarm, updates: int) -> tuple[dict[Way, list[Count]], float]:
    """The counts, and the seconds that the updates took."""
    addresses = [node.address for node in swarm.cluster.nodes]
    with swarm.client() as client:
        create(client, spec(0))
        wait(lambda: replaced(client))
        for address in addresses:
            wait(lambda address=address: answers(address))  # type: ignore[misc]
        with loaded(addresses) as counts:
            begin = time.monotonic()
            for turn in range(1, updates + 1):
                update(client, spec(turn))
                wait(lambda: replaced(client), limit=600)
                print(f"update {turn}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
            took = time.monotonic() - begin
    return counts, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=20)
    updates = parser.parse_args().updates
    if not shutil.which("wrk"):
        sys.exit("not installed: wrk")
    with swarm_of_three(NAME) as swarm:
        for version in ("1.12", "1.13"):
            swarm.load(Path(IMAGES) / f"nginx-{version}.tar")
        counts, took = measure(swarm, updates)
    print(f"| {updates} updates of {REPLICAS} tasks, asked | requests | failed |\n|---|---|---|")
    for way, found in counts.items():
        print(f"| {way.name} | {sum(one.requests for one in found)} | {sum(one.failed for one in found)} |")
    for way, found in counts.items():
        for one in found:
            if one.failed:
                print(f"{way.name}: {one.words}")
    every = [one for found in counts.values() for one in found]
    total, failed = sum(one.requests for one in every), sum(one.failed for one in every)
    verdict = "met" if not failed and total >= AIM else "MISSED"
    print(f"\n{took:.0f} s, load {os.getloadavg()[0]:.1f}; {failed} of {total} requests failed; "
          f"the aim, none of {AIM}, is {verdict}")  # fmt: skip
    sys.exit(bool(failed) or total < AIM)


if __name__ == "__main__":
    main()
