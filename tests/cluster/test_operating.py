"""Operating the container of any task through any manager: as users do it, on real nodes."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.cluster.clusters import IMAGES
from tests.cluster.console import SWARMCTL
from tests.cluster.lab import Lab, TaskRow
from tests.cluster.waiting import eventually
from tests.unit.terminal import Screen

pytestmark = [pytest.mark.root, pytest.mark.cluster]

ONE_EACH = ("--replicas", "3", "--replicas-max-per-node", "1")
"""On every node, also when a new leader has not heard of all of them yet."""


def on_node(lab: Lab, service: str, node: str) -> TaskRow:
    (task,) = [task for task in lab.until_running(service, 3) if task.node.endswith(node)]
    return task


def audit(lab: Lab, node: str, method: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in lab.ask("swarm", "audit", node=node).splitlines()]
    return [line for line in lines if line["method"] == method]


def test_a_task_is_operated_through_another_manager(trio: Lab, tmp_path: Path) -> None:
    trio.create("web", *ONE_EACH)
    task = on_node(trio, "web", "node3")
    slot = task.name
    for node in trio.nodes:
        assert trio.ask("exec", slot, "cat", "/etc/hostname", node=node) == task.id[:12]
    refused = trio.refusal("exec", "web", "true")
    assert "service web has 3 running tasks: name one of" in refused
    assert "No such container: ghost" in trio.refusal("exec", "ghost", "true")
    assert trio.on("node1", "exec", slot, "sh", "-c", "exit 7").code == 7
    assert trio.on("node1", "exec", slot, "nosuch").code == 127
    assert trio.ask("exec", "-i", slot, "cat", stdin=b"typed") == "typed"

    with closing(
        Screen("--context", f"{trio.name}-node1", "exec", "-it", slot, "sh", env=trio.environment)
    ) as screen:
        screen.until(b"# ")
        screen.type(b"stty size; tty\n")
        screen.until(b"33 101")
        screen.until(b"/dev/pts/0")
        screen.type(b"exit 5\n")
        assert screen.ended() == 5

    here = tmp_path / "here"
    here.mkdir()
    (here / "data").write_bytes(b"x" * 5_000_000)
    trio.ask("cp", str(here), f"{slot}:/tmp")
    assert trio.ask("exec", slot, "sh", "-c", "wc -c </tmp/here/data") == "5000000"
    trio.ask("cp", f"{slot}:/tmp/here/.", str(tmp_path / "back"))
    assert (tmp_path / "back/data").read_bytes() == (here / "data").read_bytes()
    assert "A /tmp/here/data" in trio.ask("diff", slot)
    made = trio.ask("commit", "-m", "with data", slot, "made:1")
    assert made == trio.ask("images", "-q", "--no-trunc", "made:1", node="node3")
    assert "No such image: made:1" in trio.refusal("history", "made:1", node="node2")
    command = ("sh", "-c", "wc -c </tmp/here/data; exec sleep 1000")
    trio.ask(
        "service", "create", "-d", "--name", "two", "--constraint", "node.hostname==node2", "made:1", *command
    )
    eventually("it runs elsewhere", lambda: trio.on("node1", "service", "logs", "--raw", "two").out.strip(),
               lambda said: said == "5000000")  # fmt: skip
    assert "made" in trio.ask("images", "--format", "{{.Repository}}", node="node2").split()
    assert "nginx: master process" in trio.ask("top", slot)
    form = ("--no-stream", "--format", "{{.Name}} {{.PIDs}}")
    shown = trio.ask("stats", *form, "web").splitlines()
    assert [line.rpartition(".")[0] for line in shown] == ["web.1", "web.2", "web.3"]
    assert all(int(line.split()[1]) >= 2 for line in shown)

    trio.ask("pause", slot)
    assert "is paused, unpause it before exec" in trio.refusal("exec", slot, "true")
    trio.ask("unpause", slot)
    trio.ask("update", "--memory", "64m", slot)
    assert "/ 64MiB" in trio.ask("stats", "--no-stream", slot)

    manager = audit(trio, "node1", "Containers/Exec")
    node = audit(trio, "node3", "NodeContainers/Exec")
    (line,) = [each for each in manager if each["fields"] == {"command.args": ["sh", "-c", "exit 7"]}]
    (twin,) = [each for each in node if each["request"] == line["request"]]
    assert (line["answer"], twin["answer"]) == ({"end.exit_code": 7}, {"end.exit_code": 7})
    assert (twin["target"], twin["caller"]["kind"]) == (task.id, "local socket")  # type: ignore[index]
    assert b"typed" not in (trio.directory("node3") / "data/audit.log").read_bytes()


def test_a_node_that_dies_ends_the_sessions_on_it_with_its_name(trio: Lab) -> None:
    trio.create("web", *ONE_EACH)
    task = on_node(trio, "web", "node3")
    words = ["--context", f"{trio.name}-node1", "exec", task.name, "sh", "-c", "echo begun; sleep 1000"]
    with subprocess.Popen(
        [SWARMCTL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=trio.environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        trio.local("kill", "node3")
        _, complaint = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the way to node node3 is broken" in complaint
    assert "may run on" in complaint


def test_what_runs_is_looked_into_without_a_leader(trio: Lab) -> None:
    trio.create("web", *ONE_EACH)
    here, there = on_node(trio, "web", "node1"), on_node(trio, "web", "node2")
    trio.local("kill", "node3")
    trio.local("stop", "node2")
    assert trio.ask("exec", here.name, "cat", "/etc/hostname") == here.id[:12]
    assert trio.ask("ps", "--format", "{{.Names}}").startswith("web.")
    assert "the way to node" in trio.refusal("exec", there.name, "true")


def test_a_single_container_outlives_its_daemon(trio: Lab) -> None:
    assert trio.ask("run", "--rm", "nginx:1.12", "sh", "-c", "echo of $HOSTNAME").startswith("of ")
    box = trio.ask("run", "-d", "--name", "box", "--restart", "unless-stopped", "nginx:1.12", "sleep", "1000")
    shown = ("ps", "--filter", "name=box", "--format", "{{.ID}} {{.Status}} {{.Names}}")
    assert trio.ask(*shown).split()[:2] == [box[:12], "Up"]
    pid = trio.processes("node1", "^sleep 1000")
    trio.kill_daemon("node1")
    eventually("the daemon is back", lambda: trio.on("node1", *shown).code, lambda code: code == 0)
    assert trio.processes("node1", "^sleep 1000") == pid
    assert trio.ask("exec", "box", "sh", "-c", "echo 1 >/n; cat /n") == "1"
    trio.local("kill", "node1")
    trio.local("start", "node1")
    eventually("it runs again", lambda: trio.on("node1", *shown).out, lambda text: " Up " in text)
    assert trio.ask("exec", "box", "cat", "/n") == "1"
    assert "No such container: box" in trio.refusal("exec", "box", "true", node="node2")
    trio.ask("rm", "-f", "box")
    assert trio.ask("ps", "-aq") == ""


def test_single_containers_are_in_networks_of_the_swarm(trio: Lab) -> None:
    """One on node1 and one on node3, beside a service; node3 loses its daemon, then its power."""
    trio.ask("network", "create", "--attachable", "front")
    trio.create("web", *ONE_EACH, "--network", "front")
    trio.until_running("web", 3)  # so that every node has the image
    trio.ask("load", "-i", str(IMAGES / "busybox.tar"))
    trio.ask("run", "-d", "--name", "tool", "busybox", "sleep", "1000")
    image = trio.ask("images", "-q", "--no-trunc", "nginx:1.12")  # which node3 has without its name
    policy = ("--restart", "unless-stopped")
    trio.ask("run", "-d", "--name", "page", *policy, "--network", "name=front,alias=www", image, node="node3")

    def reached(where: str, *, can_be: bool = True) -> None:
        words = ("exec", "tool", "ping", "-c1", "-W2", where)
        eventually(where, lambda: trio.on("node1", *words).code == 0, lambda could: could is can_be)

    def places() -> dict[str, tuple[str, bool]]:
        text = trio.ask("network", "inspect", "--format", "{{json .Containers}}", "front")
        return {one["Name"]: (one["IPv4Address"], one["Up"]) for one in (json.loads(text) or {}).values()}

    page = eventually("it has an address", lambda: places()["page"])[0].partition("/")[0]
    wanted = f"{page.rpartition('.')[0]}.99"
    trio.ask("network", "connect", "--ip", wanted, "front", "tool")
    before = eventually(
        "both are up", places, lambda now: len(now) == 2 and all(is_up for _, is_up in now.values())
    )
    assert before["tool"] == (f"{wanted}/24", True)
    for name in ("www", "page", "page.front"):
        reached(name)
    virtual = json.loads(trio.ask("service", "inspect", "web"))[0]["Endpoint"]["VirtualIPs"][0]["Addr"]
    for address in (virtual.partition("/")[0], page):
        asked = ("sh", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80")
        eventually(
            address,
            lambda asked=asked: trio.on("node1", "exec", "tool", *asked).out,
            lambda it: "200 OK" in it,
        )
    eventually("back", lambda: trio.on("node3", "exec", "page", "ping", "-c1", "-W2", wanted).code == 0)
    refused = trio.refusal("network", "rm", "front")
    assert "network front is in use by service web" in refused

    trio.kill_daemon("node3")
    eventually("the daemon is back", lambda: trio.on("node3", "ps").code, lambda code: code == 0)
    reached("www")
    trio.local("kill", "node3")
    trio.local("start", "node3")
    reached("www")
    eventually("every address is the one it was", places, lambda now: now == before)

    trio.ask("network", "disconnect", "front", "tool")
    reached("www", can_be=False)
    assert "is not connected to network front" in trio.refusal("network", "disconnect", "front", "tool")
    trio.ask("rm", "-f", "page", node="node3")
    eventually("nobody is in it", lambda: places() == {})
    trio.ask("rm", "-f", "tool")
    trio.ask("rmi", "busybox")
    trio.ask("service", "rm", "web")
    eventually(
        "the network goes", lambda: trio.on("node1", "network", "rm", "front").code, lambda code: code == 0
    )
