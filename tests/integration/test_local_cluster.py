"""Local clusters of a stand-in daemon: everything around the daemon is real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from swarmd.cli.local import cgroup, process
from swarmd.cli.local.cluster import LocalClusters
from swarmd.cli.local.commands import group
from swarmd.cli.local.core.plan import Cluster, Role
from swarmd.cli.local.state import Root
from swarmd.cli.local.swarm import PORTS, Ports
from swarmd.cli.local.waiting import until
from swarmd.model.errors import Conflict, Refused, SwarmError, Unavailable

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

STAND_IN = """
import json, os, signal, socket, sys, threading
data, run, log = sys.argv[1:4]
members = data + "/members"
os.makedirs(data + "/starts", exist_ok=True)
open(f"{data}/starts/{len(os.listdir(data + '/starts'))}", "w").close()
open(run + "/daemon.pid", "w").write(str(os.getpid()))
open(log, "a").write("the stand-in is here\\n")

def off(*_):
    open(data + "/orderly", "w").close()
    os._exit(0)

signal.signal(signal.SIGTERM, off)

def answer(request):
    word, *rest = request.split()
    if word == "init":
        open(members, "w").write(socket.gethostname() + "\\n")
    elif word == "join":
        with socket.create_connection((rest[0], 2377), timeout=30) as peer:
            peer.sendall(f"member {socket.gethostname()}\\n".encode())
            return peer.makefile().readline().strip()
    elif word == "member":
        open(members, "a").write(rest[0] + "\\n")
    elif word == "nodes":
        return open(members).read().replace("\\n", " ")
    return "ok"

def serve(listener):
    listener.listen()
    while True:
        peer = listener.accept()[0]
        with peer:
            line = peer.makefile().readline()
            if line:
                peer.sendall((answer(line) + "\\n").encode())

tcp = socket.create_server(("", 2377))
threading.Thread(target=serve, args=(tcp,), daemon=True).start()
unix = socket.socket(socket.AF_UNIX)
unix.bind(run + "/swarmd.new")
unix.listen()
os.rename(run + "/swarmd.new", run + "/swarmd.sock")
serve(unix)
"""


def ask(path: str, request: str) -> str:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(30)
        peer.connect(path)
        peer.sendall(f"{request}\n".encode())
        return peer.makefile().readline().strip()


class StandInApi:
    """The calls of the ClusterApi port, in the stand-in's language.

    ``enough``: once the node's log says it, it is waited for no longer.
    """

    enough = ""

    def wait_ready(self, path: str, timeout: float) -> None:
        def answers() -> bool:
            try:
                return ask(path, "ping") == "ok"
            except OSError:
                return False

        def told() -> bool:
            log = Path(path).parents[1] / "log" / "node.log"
            return bool(self.enough) and log.exists() and self.enough in log.read_text()

        until(lambda: answers() or told(), seconds=timeout)
        if not answers():
            raise Unavailable(f"no answer at {path}")

    def init(self, path: str, advertise_addr: str) -> None:
        assert ask(path, "init") == "ok"

    def join_token(self, path: str, role: Role) -> str:
        return f"token-{role}"

    def join(self, path: str, token: str, remote_addr: str, advertise_addr: str) -> None:
        assert ask(path, f"join {remote_addr.partition(':')[0]}") == "ok"

    def nodes(self, path: str) -> list[tuple[str, str]]:
        return [(name, "Ready") for name in ask(path, "nodes").split()]


class FakeContexts:
    def __init__(self) -> None:
        self.saved: dict[str, str] = {}

    def save_context(self, name: str, host: str) -> None:
        self.saved[name] = host

    def remove_context(self, name: str) -> None:
        self.saved.pop(name, None)


class Bench:
    """Local clusters of the stand-in below a root of their own."""

    def __init__(self) -> None:
        self.root = tempfile.mkdtemp(prefix="swl-", dir="/tmp")
        script = Path(self.root + ".py")
        script.write_text(STAND_IN)
        self.script = script
        self.contexts = FakeContexts()
        self.api = StandInApi()
        self.said: list[str] = []
        self.daemon = (sys.executable, str(script), "{data}", "{run}", "{log}")
        self.clusters = self.with_daemon(*self.daemon)

    def with_daemon(self, *daemon: str) -> LocalClusters:
        ports = Ports(self.api, self.contexts)
        return LocalClusters(Root(self.root), ports, daemon=daemon, say=self.said.append)

    def run(self, cluster: Cluster, node: str, *command: str) -> subprocess.CompletedProcess[str]:
        """``swarmctl local exec``, as a process of its own."""
        words = ["exec", "--name", cluster.name, node, "--", *command]
        return subprocess.run(
            [sys.executable, "-c", CLI, *words],
            env={**os.environ, "SWARMD_LOCAL_ROOT": self.root},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def output(self, cluster: Cluster, node: str, *command: str) -> str:
        done = self.run(cluster, node, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, cluster: Cluster, node: str) -> str:
        now = next(c for c in self.clusters.clusters() if c.name == cluster.name)
        return dict(zip((n.name for n in now.nodes), self.clusters.states(now), strict=True))[node]

    def socket(self, cluster: Cluster, node: str) -> str:
        return f"{self.root}/{cluster.name}/{node}/run/swarmd.sock"

    def close(self) -> None:
        for name in Root(self.root).names():
            self.clusters.down(name)
        self.script.unlink()
        shutil.rmtree(self.root, ignore_errors=True)


CLI = """
import os, sys
sys.path.insert(0, os.getcwd())
import click
from swarmd.cli.local.commands import group
from swarmd.cli.local.swarm import PORTS, Ports
@click.group()
@click.pass_context
def main(ctx):
    ctx.meta[PORTS] = lambda: Ports(None, None)
main.add_command(group)
main(["local", *sys.argv[1:]])
"""


def name_of(letter: str) -> str:
    return f"t{os.getpid()}{letter}"


def answers(host: str, seconds: float = 30.0) -> bool:
    try:
        with socket.create_connection((host, 2377), timeout=seconds) as peer:
            peer.sendall(b"ping\n")
            return peer.makefile().readline() == "ok\n"
    except OSError:
        return False


def read(path: str) -> str:
    return Path(path).read_text().strip()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Bench, Cluster]]:
    made = Bench()
    try:
        yield made, made.clusters.up(name_of("s"), nodes=3, managers=2)
    finally:
        made.close()


Shared = tuple[Bench, Cluster]


def test_each_node_has_namespaces_of_its_own(shared: Shared) -> None:
    bench, cluster = shared
    kinds = ("net", "mnt", "uts", "ipc", "pid", "cgroup")
    for kind in kinds:
        inside = [bench.output(cluster, n.name, "readlink", f"/proc/1/ns/{kind}") for n in cluster.nodes]
        assert len({os.readlink(f"/proc/self/ns/{kind}"), *inside}) == 4


def test_each_node_has_its_own_host_name_and_files_in_etc(shared: Shared) -> None:
    bench, cluster = shared
    assert bench.output(cluster, "node2", "hostname") == "node2"
    assert bench.output(cluster, "node2", "cat", "/etc/hostname") == "node2"
    assert cluster.nodes[2].address in bench.output(cluster, "node2", "cat", "/etc/hosts")
    assert "nameserver 127.0.0.1" in bench.output(cluster, "node2", "cat", "/etc/resolv.conf")
    assert os.uname().nodename not in ("node1", "node2", "node3")


def test_the_host_and_the_nodes_reach_each_other(shared: Shared) -> None:
    bench, cluster = shared
    assert all(answers(node.address) for node in cluster.nodes)
    code = "import socket,sys; socket.create_connection((sys.argv[1], 2377), timeout=60)"
    for target in (cluster.nodes[2].address, cluster.nodes[0].address):
        bench.output(cluster, "node1", sys.executable, "-c", code, target)
    with socket.create_server((cluster.gateway, 0)) as here:
        port = str(here.getsockname()[1])
        code = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)"
        bench.output(cluster, "node3", sys.executable, "-c", code, cluster.gateway, port)


def test_inside_a_node_every_cgroup_is_the_top_and_takes_children(shared: Shared) -> None:
    bench, cluster = shared
    outside = {h.mountpoint: h.kind for h in cgroup.here()}
    top = "/init.scope" if list(outside.values()) == ["cgroup2"] else "/"
    for line in bench.output(cluster, "node1", "cat", "/proc/1/cgroup", "/proc/self/cgroup").splitlines():
        assert line.endswith(f":{top}" if line.startswith("0:") else ":/"), line
    seen = bench.output(cluster, "node1", "cat", "/proc/self/mountinfo")
    inside = {
        line.split(" ")[4]: line.split(" - ")[1].split(" ")[0]
        for line in seen.splitlines()
        if " - cgroup" in line and line.split(" ")[3] == "/"
    }
    assert inside == outside
    for target in outside:
        script = f"mkdir {target}/box && [ -e {target}/box/cgroup.procs ]"
        bench.output(cluster, "node1", "sh", "-c", script)
        if target.endswith("/cpuset"):
            bench.output(cluster, "node1", "sh", "-c", f'[ -n "$(cat {target}/cpuset.cpus)" ]')
        bench.output(cluster, "node1", "rmdir", f"{target}/box")


def test_a_node_sees_only_its_own_processes_and_its_own_run(shared: Shared) -> None:
    bench, cluster = shared
    pid = read(f"{bench.root}/{cluster.name}/node1/run/daemon.pid")
    assert bench.output(cluster, "node1", "cat", "/run/swarmd/daemon.pid") == pid
    numbers = bench.output(cluster, "node1", "sh", "-c", "echo /proc/[0-9]*").split()
    assert f"/proc/{pid}" in numbers
    assert len(numbers) < 8
    assert bench.output(cluster, "node1", "ls", "/run").split() == ["lock", "swarmd"]


def test_the_api_sockets_are_contexts_named_after_cluster_and_node(shared: Shared) -> None:
    bench, cluster = shared
    assert bench.contexts.saved == {
        f"{cluster.name}-{node.name}": f"unix://{bench.socket(cluster, node.name)}" for node in cluster.nodes
    }
    assert ask(bench.socket(cluster, "node1"), "nodes").split() == ["node1", "node2", "node3"]


def test_exec_passes_output_and_exit_code_through(shared: Shared) -> None:
    bench, cluster = shared
    done = bench.run(cluster, "node1", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")


def test_exec_in_a_node_that_is_not_there_names_those_that_are(shared: Shared) -> None:
    bench, cluster = shared
    done = bench.run(cluster, "node9", "true")
    assert done.returncode != 0
    assert "node1, node2, node3" in done.stderr


def test_a_daemon_that_dies_is_started_again_and_the_node_stays_up(shared: Shared) -> None:
    bench, cluster = shared
    home = f"{bench.root}/{cluster.name}/node2"
    before = read(f"{home}/run/daemon.pid")
    starts = len(os.listdir(f"{home}/data/starts"))
    stranger = "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $!"
    sleeper = bench.output(cluster, "node2", "sh", "-c", stranger)
    bench.output(cluster, "node2", "kill", "-9", before)
    assert until(lambda: read(f"{home}/run/daemon.pid") not in ("", before), seconds=60)
    assert until(lambda: answers(cluster.node("node2").address, 1.0), seconds=60)
    assert len(os.listdir(f"{home}/data/starts")) == starts + 1
    assert bench.run(cluster, "node2", "kill", "-9", sleeper).returncode == 0
    assert "ended by signal 9" in read(f"{home}/log/node.log")


def test_a_killed_node_is_gone_at_once_and_starts_with_disk_and_address_kept(shared: Shared) -> None:
    bench, cluster = shared
    node = next(c for c in bench.clusters.clusters() if c.name == cluster.name).node("node3")
    home = f"{bench.root}/{cluster.name}/node3"
    bench.clusters.kill(cluster.name, "node3")
    assert not process.is_alive(node.process)
    assert not any(os.path.exists(path) for path in node.cgroups)
    assert not answers(node.address, 0.3)
    assert not os.path.exists(f"{home}/data/orderly")
    assert bench.state(cluster, "node3") == "killed"
    with pytest.raises(Refused, match="is killed; there is nothing to kill"):
        bench.clusters.kill(cluster.name, "node3")
    Path(f"{home}/run/stale.pid").write_text("2")
    starts = len(os.listdir(f"{home}/data/starts"))
    bench.clusters.start(cluster.name, "node3")
    assert bench.state(cluster, "node3") == "running"
    assert answers(node.address)
    assert len(os.listdir(f"{home}/data/starts")) == starts + 1
    assert not os.path.exists(f"{home}/run/stale.pid")


def test_a_stopped_node_lets_its_daemon_end_in_order(shared: Shared) -> None:
    bench, cluster = shared
    home = f"{bench.root}/{cluster.name}/node3"
    bench.clusters.stop(cluster.name, "node3")
    assert os.path.exists(f"{home}/data/orderly")
    assert bench.state(cluster, "node3") == "stopped"
    assert not answers(cluster.node("node3").address, 0.3)
    assert "the node is off" in read(f"{home}/log/node.log")
    os.unlink(f"{home}/data/orderly")
    bench.clusters.start(cluster.name, "node3")
    assert answers(cluster.node("node3").address)


def test_a_paused_node_answers_only_after_unpause(shared: Shared) -> None:
    bench, cluster = shared
    bench.clusters.pause(cluster.name, "node3")
    assert bench.state(cluster, "node3") == "paused"
    assert not answers(cluster.node("node3").address, 0.3)
    with pytest.raises(Refused, match="paused"):
        bench.clusters.pause(cluster.name, "node3")
    bench.clusters.unpause(cluster.name, "node3")
    assert bench.state(cluster, "node3") == "running"
    assert until(lambda: answers(cluster.node("node3").address, 1.0), seconds=60)


def test_a_paused_node_can_be_stopped_in_order_and_killed(shared: Shared) -> None:
    bench, cluster = shared
    bench.clusters.pause(cluster.name, "node3")
    bench.clusters.kill(cluster.name, "node3")
    bench.clusters.start(cluster.name, "node3")
    bench.clusters.pause(cluster.name, "node3")
    bench.clusters.stop(cluster.name, "node3")
    orderly = Path(f"{bench.root}/{cluster.name}/node3/data/orderly")
    assert orderly.exists()
    orderly.unlink()
    bench.clusters.start(cluster.name, "node3")
    assert bench.state(cluster, "node3") == "running"


def test_a_cut_node_keeps_address_and_carrier_but_nobody_reaches_it_until_healed(shared: Shared) -> None:
    bench, cluster = shared
    address = cluster.node("node3").address
    bench.clusters.cut(cluster.name, "node3")
    assert bench.state(cluster, "node3") == "cut"
    assert not answers(address, 0.3)
    assert address in bench.output(cluster, "node3", "ip", "-br", "address", "show", "eth0")
    assert bench.output(cluster, "node3", "cat", "/sys/class/net/eth0/carrier") == "1"
    code = "import socket,sys; socket.create_connection((sys.argv[1], 2377), timeout=0.3)"
    assert bench.run(cluster, "node3", sys.executable, "-c", code, cluster.nodes[0].address).returncode == 1
    bench.clusters.kill(cluster.name, "node3")
    bench.clusters.start(cluster.name, "node3")
    assert bench.state(cluster, "node3") == "cut"
    assert not answers(address, 0.3)
    bench.clusters.heal(cluster.name, "node3")
    assert bench.state(cluster, "node3") == "running"
    assert until(lambda: answers(address, 1.0), seconds=60)
    with pytest.raises(Refused, match="not cut"):
        bench.clusters.heal(cluster.name, "node3")


def test_up_again_says_that_it_is_up_and_another_size_is_refused(shared: Shared) -> None:
    bench, cluster = shared
    assert bench.clusters.up(cluster.name, nodes=3, managers=2).subnet == cluster.subnet
    assert bench.said[-1] == f'The local cluster "{cluster.name}" is up already.'
    with pytest.raises(Conflict, match="of 3 nodes already"):
        bench.clusters.up(cluster.name, nodes=5, managers=1)


def test_two_clusters_live_side_by_side(shared: Shared) -> None:
    bench, cluster = shared
    other = bench.clusters.up(name_of("o"), nodes=1, managers=1)
    assert other.subnet != cluster.subnet
    assert answers(other.nodes[0].address)
    assert [c.name for c in bench.clusters.clusters()] == sorted([cluster.name, other.name])
    bench.clusters.down(other.name)
    assert not answers(other.nodes[0].address, 0.3)
    assert all(answers(node.address) for node in cluster.nodes)


def test_ls_shows_clusters_and_nodes(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, cluster = shared
    monkeypatch.setenv("SWARMD_LOCAL_ROOT", bench.root)

    @click.group()
    @click.pass_context
    def main(ctx: click.Context) -> None:
        ctx.meta[PORTS] = lambda: Ports(StandInApi(), bench.contexts)

    main.add_command(group)
    lines = CliRunner().invoke(main, ["local", "ls"], catch_exceptions=False).output.splitlines()
    assert lines[0].split() == ["NAME", "NODES", "STATUS", "SUBNET"]
    assert lines[1].split() == [cluster.name, "3", "3", "running", cluster.subnet]
    assert lines[3].split() == ["NAME", "ADDRESS", "STATE", "PID", "CONTEXT"]
    name, address, state, pid, context = lines[4].split()
    assert (name, address, state) == ("node1", cluster.nodes[0].address, "running")
    assert os.path.exists(f"/proc/{pid}")
    assert context == f"{cluster.name}-node1"


def traces(bench: Bench, mine: str) -> dict[str, list[str]]:
    """What there is of the cluster ``mine`` on this machine; other clusters may be at work beside it."""
    directories = [
        os.path.join(path, name) for h in cgroup.here() for path, names, _ in os.walk(h.own) for name in names
    ]
    mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {
        "links": [name for name in os.listdir("/sys/class/net") if name == f"swl-{mine}"],
        "mounts": [target for target in mounts if target.startswith(bench.root)],
        "cgroups": [path for path in directories if f"/swarmd-local/{mine}" in path],
        "processes": [pid for pid in os.listdir("/proc") if pid.isdigit() and belongs(pid, bench.root, mine)],
        "files": os.listdir(bench.root) if os.path.exists(bench.root) else [],
        "contexts": list(bench.contexts.saved),
    }


def belongs(pid: str, root: str, mine: str) -> bool:
    """Whether a process that has not ended belongs to the cluster."""
    if not process.is_alive(process.identify(int(pid))):
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        return root in command or f"/swarmd-local/{mine}" in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


NOTHING: dict[str, list[str]] = {
    "links": [], "mounts": [], "cgroups": [], "processes": [], "files": [], "contexts": [],
}  # fmt: skip

CRASH = """
import os, signal, sys
sys.path.insert(0, os.getcwd())
from swarmd.cli.local import cgroup, cluster, machine, network, process, state
from swarmd.cli.local.swarm import Ports

verb, point, root, name, *daemon = sys.argv[1:]

class Contexts:
    def remove_context(self, name):
        pass

class Api:
    def wait_ready(self, socket, timeout):
        pass

owner = eval(point.rpartition(".")[0])
setattr(owner, point.rpartition(".")[2], lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
clusters = cluster.LocalClusters(state.Root(root), Ports(Api(), Contexts()), daemon=daemon)
clusters.up(name, nodes=2, managers=1) if verb == "up" else clusters.down(name)
"""


def crash(bench: Bench, verb: str, point: str, name: str) -> None:
    """Run the verb in a process that is killed where ``point`` would be called."""
    argv = [sys.executable, "-c", CRASH, verb, point, bench.root, name, *bench.daemon]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_down_leaves_nothing_and_can_be_said_twice(bench: Bench) -> None:
    cluster = bench.clusters.up(name_of("d"), nodes=2, managers=1)
    for kind, found in traces(bench, name_of("d")).items():
        assert found, kind
    bench.output(
        cluster, "node1", "sh", "-c", "mkdir -p /sys/fs/cgroup/*/box/inner || mkdir /sys/fs/cgroup/box"
    )
    bench.clusters.kill(cluster.name, "node2")
    bench.clusters.pause(cluster.name, "node1")
    bench.clusters.down(cluster.name)
    assert traces(bench, name_of("d")) == NOTHING
    bench.clusters.down(cluster.name)
    assert "There is no local cluster" in bench.said[-1]


@pytest.mark.parametrize(
    "point",
    ["network.ensure_switch", "cgroup.make", "process.identify", "network.connect", "cluster.form_swarm"],
)
def test_down_cleans_up_after_an_up_that_was_killed_half_way(bench: Bench, point: str) -> None:
    name = name_of("k")
    crash(bench, "up", point, name)
    assert bench.clusters.clusters()[0].complete is False
    with pytest.raises(Conflict, match="already"):
        bench.clusters.up(name, nodes=2, managers=1)
    bench.clusters.down(name)
    assert traces(bench, name_of("k")) == NOTHING


@pytest.mark.parametrize(
    "point", ["network.unplug", "network.remove_switch", "state.Record.remove", "os.rmdir"]
)
def test_down_can_be_repeated_after_it_was_killed_half_way(bench: Bench, point: str) -> None:
    cluster = bench.clusters.up(name_of("h"), nodes=2, managers=1)
    crash(bench, "down", point, cluster.name)
    bench.clusters.down(cluster.name)
    assert traces(bench, name_of("h")) == NOTHING


def test_down_works_without_the_record(bench: Bench) -> None:
    cluster = bench.clusters.up(name_of("r"), nodes=1, managers=1)
    Path(bench.root, cluster.name, "cluster.json").write_text("{")
    bench.clusters.down(cluster.name)
    assert traces(bench, name_of("r")) == NOTHING


def test_up_that_is_interrupted_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str, timeout: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.api, "wait_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.clusters.up(name_of("i"), nodes=2, managers=1)
    assert traces(bench, name_of("i")) == NOTHING


def test_a_daemon_that_is_not_there_is_tried_again_and_the_log_says_why(bench: Bench) -> None:
    bench.api.enough = "next start is in 0.4 s"
    with pytest.raises(SwarmError, match=r"cannot be started: .*No such file(?s:.*)next start is in 0.4 s"):
        bench.with_daemon("/no/such/daemon").up(name_of("n"), nodes=1, managers=1)
    assert traces(bench, name_of("n")) == NOTHING


def test_up_that_fails_shows_the_log_and_leaves_nothing(bench: Bench) -> None:
    bench.api.enough = "the disk is on fire"
    broken = bench.with_daemon("/bin/sh", "-c", "echo the disk is on fire; exec sleep 300")
    with pytest.raises(SwarmError, match=r"node1 does not answer(?s:.*)the disk is on fire"):
        broken.up(name_of("f"), nodes=2, managers=1)
    assert traces(bench, name_of("f")) == NOTHING


def test_the_record_is_json_a_person_can_read(shared: Shared) -> None:
    bench, cluster = shared
    record = json.loads(Path(bench.root, cluster.name, "cluster.json").read_text())
    assert [node["name"] for node in record["nodes"]] == ["node1", "node2", "node3"]
    assert record["complete"] is True


def test_without_root_there_is_a_sentence(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, _ = shared
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SwarmError, match="needs root"):
        bench.clusters.up("other", nodes=1, managers=1)
