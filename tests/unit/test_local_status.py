"""What is said about nodes and clusters, and how a swarm is made of them."""

from __future__ import annotations

import msgspec
import pytest

from swarmd.cli.local.core.plan import Cluster, Node, Process, Role, plan_cluster
from swarmd.cli.local.core.status import (
    Seen,
    cluster_table,
    next_steps,
    node_table,
    state_of,
    summary,
)
from swarmd.cli.local.swarm import form_swarm, wait_until_ready
from swarmd.model.errors import Unavailable

CLUSTER = plan_cluster("local", nodes=4, managers=2, taken=(), daemon=())
NODE = CLUSTER.nodes[0]
ALIVE, FROZEN, DEAD = (
    Seen(alive=True, frozen=False),
    Seen(alive=True, frozen=True),
    Seen(alive=False, frozen=False),
)


@pytest.mark.parametrize(
    ("node", "seen", "state"),
    [
        (NODE, ALIVE, "running"),
        (NODE, FROZEN, "paused"),
        (msgspec.structs.replace(NODE, cut=True), ALIVE, "cut"),
        (msgspec.structs.replace(NODE, cut=True), FROZEN, "paused"),
        (msgspec.structs.replace(NODE, ended="stopped"), DEAD, "stopped"),
        (msgspec.structs.replace(NODE, ended="killed"), DEAD, "killed"),
        (msgspec.structs.replace(NODE, process=Process(7, 8, "b")), DEAD, "killed"),
    ],
)
def test_the_state_of_a_node_is_one_word(node: Node, seen: Seen, state: str) -> None:
    assert state_of(node, seen) == state


def test_the_summary_counts_states_the_most_frequent_first() -> None:
    done = msgspec.structs.replace(CLUSTER, complete=True)
    assert summary(done, ["killed", "running", "running", "running"]) == "3 running, 1 killed"
    assert summary(CLUSTER, ["running"] * 4) == "4 running (not complete)"


def test_tables_are_aligned_and_have_no_blanks_at_the_end() -> None:
    node = msgspec.structs.replace(NODE, process=Process(4711, 8, "b"))
    text = node_table(CLUSTER.with_node(node), ["running", "stopped", "cut", "killed"])
    assert text.splitlines()[:3] == [
        "NAME    ADDRESS       STATE     PID    CONTEXT",
        "node1   172.30.1.11   running   4711   local-node1",
        "node2   172.30.1.12   stopped   -      local-node2",
    ]
    assert cluster_table([]) == "NAME   NODES   STATUS   SUBNET"


def test_the_next_steps_name_the_first_managers_context_and_another_clusters_name() -> None:
    assert "swarmctl --context local-node1 node ls" in next_steps(CLUSTER)
    assert "--name" not in next_steps(CLUSTER).replace("--name web", "")
    assert "swarmctl local kill --name two node4" in next_steps(msgspec.structs.replace(CLUSTER, name="two"))


class Swarm:
    """Remembers what it is asked for; ``shown`` are the answers to ``nodes``, the last one for ever."""

    def __init__(self, *shown: list[tuple[str, str]]) -> None:
        self.calls: list[tuple[str, ...]] = []
        self._shown = list(shown)

    def wait_ready(self, socket: str, timeout: float) -> None:
        self.calls.append(("wait", socket))

    def init(self, socket: str, advertise_addr: str) -> None:
        self.calls.append(("init", socket, advertise_addr))

    def join_token(self, socket: str, role: Role) -> str:
        return f"{role}-token"

    def join(self, socket: str, token: str, remote_addr: str, advertise_addr: str) -> None:
        self.calls.append(("join", socket, token, remote_addr, advertise_addr))

    def nodes(self, socket: str) -> list[tuple[str, str]]:
        shown = self._shown.pop(0) if len(self._shown) > 1 else self._shown[0]
        if not shown:
            raise Unavailable("there is no leader")
        return shown


def socket_of(node: Node) -> str:
    return f"{node.name}.sock"


def test_the_first_node_makes_the_swarm_and_the_others_join_it_with_the_token_of_their_role() -> None:
    api = Swarm()
    form_swarm(CLUSTER, socket_of, api)
    assert api.calls[:2] == [
        ("init", "node1.sock", "172.30.1.11"),
        ("join", "node2.sock", "manager-token", "172.30.1.11:2377", "172.30.1.12"),
    ]
    assert sorted(api.calls[2:]) == [
        ("join", "node3.sock", "worker-token", "172.30.1.11:2377", "172.30.1.13"),
        ("join", "node4.sock", "worker-token", "172.30.1.11:2377", "172.30.1.14"),
    ]


def test_a_swarm_of_one_needs_no_token() -> None:
    alone = plan_cluster("one", nodes=1, managers=1, taken=(), daemon=())
    api = Swarm()
    form_swarm(alone, socket_of, api)
    assert api.calls == [("init", "node1.sock", "172.30.1.11")]


def ready(cluster: Cluster, *but: str) -> list[tuple[str, str]]:
    return [(node.name, "Down" if node.name in but else "Ready") for node in cluster.nodes]


def test_ready_is_awaited_through_a_time_without_a_leader() -> None:
    api = Swarm([], ready(CLUSTER, "node4"), ready(CLUSTER))
    wait_until_ready(CLUSTER, "node1.sock", api, seconds=5)
    assert api.nodes("node1.sock") == ready(CLUSTER)


def test_nodes_that_are_not_ready_in_time_are_named_with_the_last_answer() -> None:
    with pytest.raises(Unavailable, match="Not Ready after 0 s: node2, node4"):
        wait_until_ready(CLUSTER, "node1.sock", Swarm(ready(CLUSTER, "node2", "node4")), seconds=0)
    with pytest.raises(Unavailable, match="there is no leader"):
        wait_until_ready(CLUSTER, "node1.sock", Swarm([]), seconds=0)
