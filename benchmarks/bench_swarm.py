"""What a user waits for, on a real local cluster: ``make bench`` runs it and prints a Markdown table.

Every figure stands beside the floor taken in the same run: crun starting the same image's root file system
once (what a container costs on this machine at this moment).  The machine's noise is in both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bench_runtime import make_rootfs
from benchmarks.crun import Crun, plain_config
from swarmd.cli.client import Client, connect
from swarmd.cli.errors import CliError
from swarmd.cli.local.cluster import LocalClusters
from swarmd.cli.local.ports import make_ports
from swarmd.cli.local.state import Root
from swarmd.model.spec import ContainerSpec, ServiceSpec, TaskTemplate, UpdateConfig
from swarmd.rpc import codec
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.rpc.v1 import node_pb2

NAME = "bench"
IMAGES = Path(".lab/images")
POLL = 0.01
RUNNING = 512


class Swarm:
    """One local cluster and calls to it."""

    def __init__(self, clusters: LocalClusters, managers: int, name: str = NAME) -> None:
        self.clusters = clusters
        self.cluster = clusters.up(name, nodes=3, managers=managers)

    def socket(self, node: str) -> str:
        root = os.environ["SWARMD_LOCAL_ROOT"]
        return f"unix://{root}/{self.cluster.name}/{node}/run/swarmd.sock"

    @contextlib.contextmanager
    def client(self, node: str = "node1") -> Iterator[Client]:
        with connect(self.socket(node)) as client:
            yield client

    def load(self, archive: Path) -> None:
        def chunks() -> Iterator[node_pb2.LoadImagesRequest]:
            with archive.open("rb") as file:
                while data := file.read(1 << 20):
                    yield node_pb2.LoadImagesRequest(data=data)

        with self.client() as client:
            client.node.LoadImages(chunks())


def busybox(name: str, replicas: int, *, force: int = 0, parallelism: int = 1) -> ServiceSpec:
    container = ContainerSpec(image="busybox:latest", args=("sleep", "100000"), stop_signal="SIGKILL")
    return ServiceSpec(
        name=name,
        replicas=replicas,
        template=TaskTemplate(container=container, force_update=force),
        update=UpdateConfig(parallelism=parallelism, monitor=0.1),
    )


def create(client: Client, spec: ServiceSpec) -> None:
    request = pb.CreateServiceRequest(resolve_image=True)
    codec.fill(request.spec, spec)
    client.control.CreateService(request)


def update(client: Client, spec: ServiceSpec) -> None:
    service = client.control.GetService(pb.GetServiceRequest(ref=spec.name)).service.service
    request = pb.UpdateServiceRequest(ref=spec.name, version=service.version, resolve_image=True)
    codec.fill(request.spec, spec)
    client.control.UpdateService(request)


def wait(predicate: Callable[[], bool], limit: float = 120.0) -> float:
    """Seconds until it holds, looked at every 10 ms."""
    begin = time.monotonic()
    while not predicate():
        if time.monotonic() - begin > limit:
            raise TimeoutError(f"not within {limit} s")
        time.sleep(POLL)
    return time.monotonic() - begin


def running(client: Client, name: str, *, up_to_date: bool = False, not_on: str = "") -> int:
    """Tasks that run and shall; ``not_on``: a host name that does not count."""
    tasks = client.control.ListTasks(pb.ListTasksRequest(service_id=name)).tasks
    return sum(
        view.task.status.state == RUNNING
        and view.task.desired_state == RUNNING
        and (view.up_to_date or not up_to_date)
        and view.node_hostname != not_on
        for view in tasks
    )


def timed(act: Callable[[], None], done: Callable[[], bool]) -> float:
    begin = time.monotonic()
    act()
    wait(done)
    return time.monotonic() - begin


def floor(rounds: int) -> float:
    """Median seconds of ``crun run`` of busybox true, now."""
    with tempfile.TemporaryDirectory() as directory:
        rootfs = make_rootfs(Path(directory) / "rootfs")
        crun = Crun(Path(directory), rootfs, plain_config())
        try:
            return statistics.median(crun.run(crun.filtered)[0] for _ in range(rounds))
        finally:
            crun.close()


def one_manager(swarm: Swarm, rounds: int) -> dict[str, float]:
    figures: dict[str, list[float]] = {}
    with swarm.client() as client:
        create(client, busybox("warm", 3))
        wait(lambda: running(client, "warm") == 3)
        client.control.RemoveService(pb.RemoveServiceRequest(ref="warm"))
        for turn in range(rounds):
            name = f"one{turn}"
            figures.setdefault("create → Running, 1 replica", []).append(
                timed(lambda n=name: create(client, busybox(n, 1)), lambda n=name: running(client, n) == 1)
            )
            figures.setdefault("scale 1 → 20", []).append(
                timed(lambda n=name: update(client, busybox(n, 20)), lambda n=name: running(client, n) == 20)
            )
            client.control.RemoveService(pb.RemoveServiceRequest(ref=name))
        create(client, busybox("roll", 10))
        wait(lambda: running(client, "roll") == 10)
        for turn in range(1, rounds + 1):
            figures.setdefault("rolling update of 10, parallelism 1: all new Running", []).append(
                timed(
                    lambda t=turn: update(client, busybox("roll", 10, force=t)),
                    lambda: running(client, "roll", up_to_date=True) == 10,
                )
            )
        for turn in range(min(rounds, 3)):
            figures.setdefault("worker power cut → all replicas Running again", []).append(
                timed(lambda: swarm.clusters.kill(NAME, "node3"), lambda: moved(client))
            )
            swarm.clusters.start(NAME, "node3")
            wait(lambda: ready(client) == 3)
            # A node that returns gets nothing by itself: spread the tasks again for the next round.
            update(client, busybox("roll", 10, force=100 + turn, parallelism=0))
            wait(lambda: running(client, "roll", up_to_date=True) == 10)
    return {name: statistics.median(values) for name, values in figures.items()}


def moved(client: Client) -> bool:
    """All ten run, none of them on the dead node."""
    return running(client, "roll") == running(client, "roll", not_on="node3") == 10


def ready(client: Client) -> int:
    nodes = client.control.ListNodes(pb.ListNodesRequest()).nodes
    return sum(view.node.status.state == "ready" for view in nodes)


def leader_loss(swarm: Swarm, rounds: int) -> float:
    """Seconds from the leader's power cut to the next write accepted through another manager."""
    taken: list[float] = []
    for turn in range(rounds):
        leader = leader_of(swarm)
        other = next(f"node{i}" for i in (1, 2, 3) if f"node{i}" != leader)
        begin = time.monotonic()
        swarm.clusters.kill(NAME, leader)
        with swarm.client(other) as client:
            wait(lambda t=turn, c=client: accepted(c, f"after{t}"))
            taken.append(time.monotonic() - begin)
            swarm.clusters.start(NAME, leader)
            wait(lambda c=client: reachable(c) == 3)
    return statistics.median(taken)


def accepted(client: Client, name: str) -> bool:
    try:
        create(client, busybox(name, 0))
    except CliError as error:
        return "already exists" in str(error)
    return True


def leader_of(swarm: Swarm) -> str:
    with swarm.client() as client:
        nodes = client.control.ListNodes(pb.ListNodesRequest()).nodes
    return next(view.node.description.hostname for view in nodes if view.manager_status == "Leader")


def reachable(client: Client) -> int:
    try:
        nodes = client.control.ListNodes(pb.ListNodesRequest()).nodes
    except CliError:
        return 0
    return sum(view.manager_status in ("Leader", "Reachable") for view in nodes)


def memory() -> dict[str, float]:
    """PSS in MiB of the idle manager's processes."""
    script = (
        "for p in /proc/[0-9]*; do "
        "echo $(tr '\\0' ' ' <$p/cmdline) @ $(awk '/^Pss:/{s+=$2}END{print s}' $p/smaps_rollup); done"
    )
    command = [sys.executable, "-m", "swarmd.cli.main", "local", "exec", "--name", NAME, "node1", "--"]
    command += ["sh", "-c", script]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = {}
    for what, word in (("daemon", "swarmd.daemon.main"), ("spawner", "spawnd.py"), ("log pump", "logd.py")):
        for line in listing.splitlines():
            command, _, size = line.rpartition(" @ ")
            if word in command and "init.py" not in command and size.isdigit():
                found[what] = int(size) / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="swb", dir="/var/tmp") as root:
        os.environ["SWARMD_LOCAL_ROOT"] = root
        os.environ["SWARMCTL_CONFIG"] = f"{root}/ctl"
        clusters = LocalClusters(Root(), make_ports(), say=lambda text: print(text, file=sys.stderr))
        try:
            report(clusters, rounds)
        finally:
            clusters.down(NAME)


def report(clusters: LocalClusters, rounds: int) -> None:
    before = floor(10 * rounds)
    swarm = Swarm(clusters, managers=1)
    swarm.load(IMAGES / "busybox.tar")
    figures = one_manager(swarm, rounds)
    used = memory()
    clusters.down(NAME)
    swarm = Swarm(clusters, managers=3)
    figures["leader power cut → next write accepted (3 managers)"] = leader_loss(swarm, rounds)
    unit = statistics.median([before, floor(10 * rounds)])
    print(f"\nfloor: one `crun run` of busybox true = {unit * 1000:.0f} ms here and now\n")
    print("| what | seconds | × floor |\n|---|---|---|")
    for name, seconds in figures.items():
        print(f"| {name} | {seconds:.2f} | {seconds / unit:.1f} |")
    print("\n| idle process of a manager | PSS MiB |\n|---|---|")
    for name, size in used.items():
        print(f"| {name} | {size:.1f} |")


if __name__ == "__main__":
    main()
