"""What there is in a local cluster: services, tasks, nodes, processes, and what a visitor gets."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from tests.cluster.console import SWARMCTL, Console
from tests.cluster.waiting import PATIENCE, eventually

HOSTNAME_PAGE = (
    "--mount",
    "source=/etc/hostname,target=/usr/share/nginx/html/index.html,type=bind,ro",
)
DAEMON = "swarmd.daemon.main"


class TaskRow(NamedTuple):
    """A line of ``service ps``; ``image`` without digest, ``state`` the first word of CURRENT STATE."""

    id: str
    name: str
    image: str
    node: str
    desired: str
    state: str
    error: str

    @property
    def runs(self) -> bool:
        return self.desired == "Running" and self.state == "Running"


class Answer(NamedTuple):
    """What a visitor gets: the page, and the headers that tell image and container."""

    page: str
    image: str
    container: str


class Lab(Console):
    """One local cluster."""

    # -- what there is ---------------------------------------------------------------------------

    def create(self, service: str, *words: str, image: str = "nginx:1.12", node: str = "node1") -> str:
        """``service create --detach``; answers the service's id."""
        return self.ask("service", "create", "--detach", "--name", service, *words, image, node=node)

    def tasks(self, service: str, *, node: str = "node1") -> list[TaskRow]:
        """``service ps --no-trunc``, the newest of each slot first."""
        fields = ("ID", "Name", "Image", "Node", "DesiredState", "CurrentState", "Error")
        form = "|".join(f"{{{{.{field}}}}}" for field in fields)
        rows = []
        for line in self.ask(
            "service", "ps", "--no-trunc", "--format", form, service, node=node
        ).splitlines():
            number, name, image, place, desired, current, error = line.split("|", 6)
            rows.append(
                TaskRow(number, name, image.partition("@")[0], place, desired, current.split()[0], error)
            )
        return rows

    def running(self, service: str, *, node: str = "node1") -> list[TaskRow]:
        """Its tasks that run and are meant to."""
        return [task for task in self.tasks(service, node=node) if task.runs]

    def until_running(
        self, service: str, count: int, *, image: str = "", node: str = "node1", seconds: float = PATIENCE
    ) -> list[TaskRow]:
        """Wait for that many running tasks, of that image when one is given; answers them."""
        return eventually(
            f"{service} has {count} running tasks {image}",
            lambda: self.running(service, node=node),
            lambda tasks: len(tasks) == count and (not image or {task.image for task in tasks} == {image}),
            seconds=seconds,
        )

    def node_column(self, column: str, *, node: str = "node1") -> dict[str, str]:
        """Host name → that column of ``node ls``."""
        text = self.ask("node", "ls", "--format", f"{{{{.Hostname}}}}|{{{{.{column}}}}}", node=node)
        return dict(line.split("|", 1) for line in text.splitlines())

    def until_node(self, name: str, status: str, *, node: str = "node1", seconds: float = PATIENCE) -> None:
        """Wait until ``node ls`` shows the node so."""
        eventually(
            f"{name} is {status}",
            lambda: self.node_column("Status", node=node),
            lambda states: states.get(name) == status,
            seconds=seconds,
        )

    def forget_the_lost(self, count: int, *, node: str = "node1") -> None:
        """Wait until that many nodes are Ready and all others Down; remove those."""
        rows = eventually(
            f"{count} nodes are Ready, and all others Down",
            lambda: [
                line.split()
                for line in self.ask("node", "ls", "--format", "{{.ID}} {{.Status}}", node=node).splitlines()
            ],
            lambda rows: (
                [status for _, status in rows].count("Ready") == count
                and {status for _, status in rows} <= {"Ready", "Down"}
            ),
        )
        for name, status in rows:
            if status == "Down":
                self.ask("node", "rm", name, node=node)

    def until_leader(self, *, node: str = "node1") -> str:
        """Wait until a node leads, as ``node`` knows it; answers its name."""
        return eventually("there is a leader", lambda: self.leader(node=node))

    def leader(self, *, node: str = "node1") -> str:
        """The leader's host name as ``node`` knows it; "" when it knows none."""
        done = self.on(node, "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}")
        return next((line.split()[0] for line in done.lines if line.endswith(" Leader")), "")

    def until_ready(self, *, node: str = "node1") -> None:
        """Wait until all nodes of the swarm are Ready."""
        eventually(
            "all nodes are Ready",
            lambda: self.node_column("Status", node=node),
            lambda states: set(states.values()) == {"Ready"},
        )

    def update_state(self, service: str) -> str:
        """Where its update or rollback is, e.g. ``completed``."""
        done = self.on("node1", "service", "inspect", "--format", "{{.UpdateStatus.State}}", service)
        return done.out.strip()

    def processes(self, node: str, pattern: str = "nginx: master process") -> list[str]:
        """Pids, as the node sees them, of processes whose command line holds the pattern (an expression).

        Not those of their children that have not got a command line of their own yet.
        """
        found = {}
        for line in self.inside(node, "ps", "-ww", "-eo", "pid=,ppid=,args=").out.splitlines():
            pid, parent, words = line.split(maxsplit=2)
            if re.search(pattern, words):
                found[pid] = parent
        return [pid for pid, parent in found.items() if parent not in found]

    def containers(self) -> dict[str, int]:
        """Node → how many nginx really run there, whatever the swarm believes."""
        return {node: len(self.processes(node)) for node in self.nodes}

    def kill_daemon(self, node: str) -> str:
        """SIGKILL to the daemon alone: its containers are left.  Answers the pid it had."""
        (pid,) = self.processes(node, DAEMON)
        done = self.inside(node, "kill", "-9", pid)
        assert done.code == 0, done
        return pid

    def until_another_daemon(self, node: str, killed: str) -> None:
        """Wait until the node has a daemon, and no more the one with that pid."""
        eventually(
            f"another daemon runs on {node}",
            lambda: self.processes(node, DAEMON),
            lambda found: bool(found) and killed not in found,
        )

    def was_missed(self, since: float) -> bool:
        """Whether a manager has taken any node for dead since that Unix time: then its tasks were replaced.

        On a busy machine that may happen to a node whose daemon was back at once.
        """
        logs = [self.directory(node) / "log" / "swarmd.log" for node in self.nodes]
        said = [line for log in logs for line in log.read_text().splitlines() if '"node_down"' in line]
        return any(
            datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp() >= since for line in said
        )

    # -- programs of others ----------------------------------------------------------------------

    @contextmanager
    def listening(self, node: str, port: int) -> Iterator[None]:
        """Another program of the node has the port while the block runs."""
        words = ["-m", "http.server", str(port), "--bind", "0.0.0.0", "--directory", "/proc/self/task"]
        with subprocess.Popen(
            [SWARMCTL, "local", "exec", "--name", self.name, node, "--", "python3", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        ):
            try:
                eventually("the other program listens", lambda: self.answers(node, port))
                yield
            finally:
                # nsenter passes no signal on to what it started.
                for pid in self.processes(node, f"http.server {port}"):
                    self.inside(node, "kill", pid)

    # -- visitors --------------------------------------------------------------------------------

    def get(self, node: str, port: int, *, seconds: float = 20.0, host: str = "") -> Answer:
        """One request on a connection of its own.  Raises OSError or HTTPException when it fails."""
        connection = http.client.HTTPConnection(self.addresses[node], port, timeout=seconds)
        try:
            connection.request("GET", "/", headers={"Host": host} if host else {})
            response = connection.getresponse()
            page = response.read().decode().strip()
            if response.status != 200:
                raise http.client.HTTPException(f"status {response.status}")
            return Answer(
                page, response.getheader("X-Image", "") or "", response.getheader("X-Served-By", "") or ""
            )
        finally:
            connection.close()

    def answers(self, node: str, port: int, *, seconds: float = 2.0) -> bool:
        """Whether a visitor gets a page."""
        try:
            self.get(node, port, seconds=seconds)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def until_answered(self, port: int, *, seconds: float = PATIENCE) -> None:
        """Wait until the port answers on every node."""
        for node in self.nodes:
            eventually(f"{node}:{port} answers", lambda node=node: self.answers(node, port), seconds=seconds)  # type: ignore[misc]

    def refuses(self, node: str, port: int) -> bool:
        """Whether nobody listens there."""
        try:
            self.get(node, port)
        except ConnectionRefusedError:
            return True
        except (OSError, http.client.HTTPException):
            return False
        return False
