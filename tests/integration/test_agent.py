"""An agent with a real runtime, network and image store, whose daemon is killed with no chance to tidy up.

Run as a program this file is that daemon: it obeys one JSON line per order and prints one per status.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id, random_fraction
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Unavailable
from swarmd.model.spec import ContainerSpec, MountSpec, PortSpec, TaskTemplate
from swarmd.model.states import TaskState
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.executor import Executor
from swarmd.node.agent.fetch import ImageFetcher
from swarmd.node.agent.mounting import Mounting
from swarmd.node.agent.prober import Prober
from swarmd.node.agent.taskdb import TaskDatabase
from swarmd.node.agent.worker import Worker
from swarmd.node.distribution.blobs import Blobs
from swarmd.node.network.port import NodeView
from swarmd.node.network.shell import Network
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.volume.volumes import Volumes, mounted_by
from swarmd.rpc import codec
from swarmd.rpc.channels import Channels
from swarmd.rpc.v1 import agent_pb2
from tests.integration.network_bed import eventually, inside, run
from tests.integration.runtime_rig import make_image

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
SERVE = ("/bin/busybox", "httpd", "-f", "-p", "8000", "-h", "/etc")


class Node:
    """A network namespace and a data directory; daemons come and go in them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.namespace = f"swagent{os.getpid()}"
        self.heard: list[dict[str, Any]] = []
        self.booted = 0
        self.daemon: subprocess.Popen[str] | None = None
        run("ip", "netns", "add", self.namespace)
        for command in (
            "link set lo up",
            "link add eth0 type veth peer far0",
            "address add 172.30.9.1/24 dev eth0",
            "link set eth0 up",
            "link set far0 up",
        ):
            run("ip", "-n", self.namespace, *command.split())
        tree = make_image(base / "tree")
        (tree / "etc" / "index.html").write_text("served by a task")
        with tarfile.open(base / "image.tar", "w") as tar:
            tar.add(tree, ".")

    def boot(self) -> None:
        # Not "ip netns exec": it hides the cgroup file systems.
        command = [
            "nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, __file__, str(self.base)
        ]  # fmt: skip
        self.daemon = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.booted = len(self.heard)
        self.until("ready", lambda said: "ready" in said)

    def order(self, desired: TaskState | None, **spec: Any) -> None:
        """What is wanted of the one task; None: that it is forgotten."""
        assert self.daemon is not None
        assert self.daemon.stdin is not None
        order = {"desired": None if desired is None else int(desired), "spec": spec}
        self.daemon.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self.daemon.stdin.flush()

    def until(self, what: str, true: Any) -> dict[str, Any]:
        assert self.daemon is not None
        assert self.daemon.stdout is not None
        for line in self.daemon.stdout:
            said: dict[str, Any] = msgspec.json.decode(line)
            if "state" in said:
                self.heard.append(said)
            if true(said):
                return said
        raise AssertionError(f"the daemon ended; waited for {what}; heard {self.heard}")

    def reached(self, state: TaskState) -> dict[str, Any]:
        """The first status with it of this daemon, which may have told where its task is before it was ready:
        who was killed may have come further than was heard."""
        for said in self.heard[self.booted :]:
            if said["state"] == state:
                return said
        return self.until(state.name, lambda said: said.get("state") == state)

    def kill(self) -> None:
        """kill -9 of the daemon alone; containers and their spawner live on."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()
        for pipe in (self.daemon.stdin, self.daemon.stdout):
            assert pipe is not None
            pipe.close()
        self.daemon = None

    def records(self) -> int:
        with sqlite3.connect(self.base / "tasks.db") as connection:
            (count,) = connection.execute("SELECT count(*) FROM tasks").fetchone()
        connection.close()
        return int(count)

    def interfaces(self) -> list[str]:
        """Interfaces of containers."""
        lines = run("ip", "-n", self.namespace, "-o", "link").splitlines()
        names = [line.split()[1].rstrip(":").partition("@")[0] for line in lines]
        known = ("lo", "eth0", "far0", "vx0")
        return [name for name in names if name not in known]

    def page(self, address: str) -> str:
        def request() -> str:
            with socket.create_connection((address, 8000), timeout=30) as sock:
                sock.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
                data = b""
                while chunk := sock.recv(4096):
                    data += chunk
            return data.decode().rpartition("\r\n")[2]

        return inside(self.namespace, request)

    def close(self) -> None:
        if self.daemon is None:
            self.boot()
        assert self.daemon is not None
        assert self.daemon.stdin is not None
        self.daemon.stdin.close()  # the end of its orders: it stops everything and ends
        assert self.daemon.stdout is not None
        self.daemon.stdout.read()
        self.daemon.wait(timeout=30)
        self.daemon.stdout.close()
        run("ip", "netns", "delete", self.namespace)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    try:
        node.boot()
        yield node
    finally:
        node.close()


def test_a_task_runs_answers_on_its_address_and_leaves_nothing(node: Node) -> None:
    node.order(TaskState.RUNNING, args=SERVE, mounts=[{"target": "/data"}])
    running = node.reached(TaskState.RUNNING)
    assert node.page(running["address"]) == "served by a task"
    assert node.records() == len(node.interfaces()) == len(list((node.base / "volumes").iterdir())) == 1
    node.order(TaskState.SHUTDOWN)
    stopped = node.reached(TaskState.SHUTDOWN)
    assert (stopped["exit_code"], stopped["address"]) == (143, "")
    node.order(None)
    node.until("removal", lambda said: said.get("tasks") == 0)
    eventually(lambda: node.records() == 0, "the task is forgotten")
    assert node.interfaces() == []
    assert list((node.base / "volumes").iterdir()) == list((node.base / "containers").iterdir()) == []
    states = [said["state"] for said in node.heard]
    assert states == sorted(states)


def test_a_task_runs_on_while_its_daemon_is_replaced(node: Node) -> None:
    node.order(TaskState.RUNNING, args=SERVE)
    running = node.reached(TaskState.RUNNING)
    node.kill()
    assert node.page(running["address"]) == "served by a task"
    node.boot()
    node.order(TaskState.RUNNING, args=SERVE)
    assert node.page(running["address"]) == "served by a task"
    node.order(TaskState.SHUTDOWN)
    assert node.reached(TaskState.SHUTDOWN)["exit_code"] == 143
    assert {said["pid"] for said in node.heard if said["state"] == TaskState.RUNNING} == {running["pid"]}


def test_a_container_that_ends_while_no_daemon_is_there_ends_its_task_with_its_code(node: Node) -> None:
    node.order(TaskState.RUNNING, args=SERVE)
    running = node.reached(TaskState.RUNNING)
    node.kill()
    os.kill(running["pid"], signal.SIGKILL)
    node.boot()
    failed = node.reached(TaskState.FAILED)
    assert (failed["exit_code"], failed["error"]) == (137, "task: non-zero exit (137)")


@pytest.mark.parametrize(
    "state", [TaskState.ACCEPTED, TaskState.PREPARING, TaskState.READY, TaskState.STARTING]
)
def test_a_daemon_killed_on_the_way_to_running_gets_there_with_one_container(
    node: Node, state: TaskState
) -> None:
    node.order(TaskState.RUNNING, args=SERVE)
    node.reached(state)
    node.kill()
    node.boot()
    node.order(TaskState.RUNNING, args=SERVE)
    running = node.reached(TaskState.RUNNING)
    assert node.page(running["address"]) == "served by a task"
    assert len(node.interfaces()) == len(list((node.base / "containers").iterdir())) == 1
    states = [said["state"] for said in node.heard]
    assert states == sorted(states)


def test_a_program_that_does_not_exist_fails_the_task_in_words(node: Node) -> None:
    node.order(TaskState.RUNNING, args=("/bin/nothing",), init=False)
    failed = node.reached(TaskState.FAILED)
    assert failed["error"].startswith("starting container failed: ")
    assert "/bin/nothing" in failed["error"]
    assert node.interfaces() == []


def test_an_image_that_is_nowhere_makes_the_task_wait_while_no_manager_can_be_asked(node: Node) -> None:
    node.order(TaskState.RUNNING, image="other:1")
    waiting = node.until("reason", lambda said: "waiting: " in said.get("message", ""))
    assert (waiting["state"], waiting["message"]) == (TaskState.PREPARING, "waiting: no manager here")
    node.order(TaskState.SHUTDOWN)
    assert node.reached(TaskState.SHUTDOWN)["exit_code"] == -1


# -- the daemon -----------------------------------------------------------------------------------


def say(**said: Any) -> None:
    print(msgspec.json.encode(said).decode(), flush=True)


def failed(name: str, error: BaseException) -> None:
    print(f"{name}: {error!r}", file=sys.stderr, flush=True)


def no_leader() -> Any:
    raise Unavailable("no manager here")


def wanted(order: dict[str, Any]) -> agent_pb2.Assignments:
    message = agent_pb2.Assignments(complete=True)
    if order["desired"] is None:
        return message
    fields = {"image": "demo:1", "init": True, **order["spec"]}
    fields["mounts"] = msgspec.convert(fields.get("mounts", ()), tuple[MountSpec, ...])
    fields["args"] = tuple(fields.get("args", ()))
    spec = message.specs.add(service_id="s1", number=1)
    codec.fill(spec.template, TaskTemplate(container=ContainerSpec(**fields)))
    codec.fill(spec.ports.add(), PortSpec(target=8000))
    message.tasks.add(
        task_id="task1", service_id="s1", service_name="web", spec_version=1, slot=1,
        desired_state=order["desired"],
    )  # fmt: skip
    return message


class Daemon:
    """The parts of a daemon that an agent needs."""

    def __init__(self, base: Path) -> None:
        clock = SystemClock()
        self.nursery = Nursery(failed)
        self.base = base
        self.runtime = LocalRuntime(base, base / "run", clock, failed)
        self.network = Network("node1", clock, failed)
        self.images = ImageStore(base / "images", clock)
        channels = Channels(no_leader)
        blobs = Blobs(
            self.images.content, channels, leader=no_leader, managers=list, own=lambda: ("node1", ""),
            changed=lambda: None, clock=clock, fraction=random_fraction,
        )  # fmt: skip
        fetcher = ImageFetcher(self.images, blobs, no_leader, lambda text: None, arch="amd64", clock=clock)
        self.volumes = Volumes(base / "volumes", clock, new_id, lambda: mounted_by(self.runtime))
        executor = Executor(
            runtime=self.runtime,
            network=self.network,
            images=self.images,
            fetcher=fetcher,
            mounting=Mounting(self.images, fetcher, self.volumes),
            facts=lambda: NodeFacts("node1", "node1"),
            prober=Prober(self.runtime, clock),
            clock=clock,
        )
        self.worker = Worker(TaskDatabase(base / "tasks.db"), executor, clock, self.nursery, self.report)

    def report(self) -> None:
        while (batch := self.worker.reporter.batch()) is not None:
            for status in batch[1].values():
                say(**msgspec.to_builtins(status))
            self.worker.reporter.acknowledged(batch[0])

    async def start(self) -> None:
        await self.runtime.start_up()
        await self.network.start()
        await self.network.configure(NodeView("node1", 1, "172.30.9.1", "10.128.1.0/24"))
        await self.images.open()
        if not self.images.list():
            await self.images.import_rootfs(self.base / "image.tar", "demo:1")
        await self.volumes.open()
        await self.worker.open()
        say(ready=True)

    async def obey(self) -> None:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = msgspec.json.decode(line)
            await self.worker.assign(wanted(order), "node1")
            if order["desired"] is None:
                await self.worker.stop_all()
                say(tasks=len(self.worker.users_of(lambda image: True)))

    async def stop(self) -> None:
        await self.worker.stop_all()
        await self.nursery.close()
        await self.network.stop(clean=True)
        await self.runtime.shut_down(stop_containers=True)


async def live(base: Path) -> None:
    daemon = Daemon(base)
    await daemon.start()
    await daemon.obey()
    await daemon.stop()


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1])))
