"""Into the swarm and out of it: tokens, leaving, removal, and what a machine is left with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from swarmd.daemon.state import MemoryFile
from swarmd.daemon.tools.vaults import open_vault
from tests.cluster.clusters import Clusters
from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

METRICS = "127.0.0.1:9323"
"""Every daemon answers there, in a swarm or not."""


def _join(lab: Lab, node: str, token: str) -> tuple[str, ...]:
    return ("swarm", "join", "--token", token, "--advertise-addr", lab.addresses[node], _manager(lab))


def _manager(lab: Lab) -> str:
    return f"{lab.addresses['node1']}:2377"


def _token(lab: Lab, *flags: str, role: str = "worker") -> str:
    return lab.ask("swarm", "join-token", "-q", *flags, role)


def _leave(lab: Lab, node: str) -> None:
    lab.ask("swarm", "leave", "--force", node=node)


def _forget(lab: Lab, hostname: str) -> None:
    """Remove a node that has left, once the swarm has seen that."""
    if hostname in lab.node_column("Status"):
        lab.until_node(hostname, "Down")
        lab.ask("node", "rm", hostname)


def _join_again(lab: Lab, node: str) -> None:
    lab.ask(*_join(lab, node, _token(lab)), node=node)
    lab.until_ready()


def _state(lab: Lab, node: str) -> str:
    return lab.ask("info", "--format", "{{.Swarm.LocalNodeState}}", node=node)


@pytest.fixture
def outsider(lab: Lab) -> str:
    """A node outside of the swarm, which remembers nothing of it."""
    if _state(lab, "node3") != "inactive":
        _leave(lab, "node3")
    _forget(lab, "node3")
    return "node3"


@pytest.fixture(scope="module", autouse=True)
def whole_again(clusters: Clusters) -> Iterator[None]:
    """The modules that follow find three nodes in the swarm."""
    yield
    lab = clusters.with_managers(1)
    if _state(lab, "node3") != "active":
        _forget(lab, "node3")
        _join_again(lab, "node3")


def test_a_node_that_is_in_a_swarm_joins_and_founds_no_other(lab: Lab) -> None:
    for words in (_join(lab, "node2", _token(lab)), ("swarm", "init")):
        assert "already part of a swarm" in lab.refusal(*words, node="node2")
    assert lab.node_column("Status") == dict.fromkeys(lab.nodes, "Ready")


def test_the_last_manager_leaves_only_by_force(lab: Lab) -> None:
    assert "last manager" in lab.refusal("swarm", "leave")
    assert "last manager" in lab.refusal("node", "demote", "node1")
    assert lab.node_column("ManagerStatus")["node1"] == "Leader"


def test_a_node_that_left_has_nothing_of_the_swarm(lab: Lab) -> None:
    lab.create("web", "--publish", "80:80", "--mode", "global")
    lab.until_running("web", 3)
    lab.until_answered(80)
    _leave(lab, "node3")
    try:
        assert lab.processes("node3") == []
        assert lab.inside("node3", "ls", "/sys/class/net").out.split() == ["eth0", "lo"]
        assert lab.inside("node3", "nft", "list", "ruleset").out.strip() == ""
        cgroups = lab.inside("node3", "find", "/sys/fs/cgroup", "-path", "*/swarmd/*", "-type", "d")
        assert cgroups.out.strip() == ""
        listeners = lab.inside("node3", "ss", "-ltnuH").out.splitlines()
        assert [line for line in listeners if METRICS not in line] == []
        assert lab.refuses("node3", 80)
        data = lab.directory("node3") / "data"
        assert list((data / "containers").iterdir()) == []
        left = {path.name for path in data.iterdir()}
        assert not left & {"vault", "raft", "node.json", "tasks.db", "mesh.json"}
        assert list((data / "volumes").iterdir()) == []
        assert not (data / "identity" / "node.key").exists()
        lab.until_node("node3", "Down")
        eventually("visitors are sent to those that are left", lambda: lab.answers("node1", 80))
    finally:
        _forget(lab, "node3")
        _join_again(lab, "node3")
    lab.until_running("web", 3)
    lab.until_answered(80)


def test_a_node_that_is_up_or_a_manager_is_not_removed_by_mistake(lab: Lab) -> None:
    assert "is not down" in lab.refusal("node", "rm", "node2")
    assert "manager" in lab.refusal("node", "rm", "--force", "node1")
    assert set(lab.node_column("Status")) == set(lab.nodes)


def _gossip_keys(lab: Lab, *nodes: str) -> set[bytes]:
    """Every key that any of ``nodes`` accepts."""
    found: set[bytes] = set()
    for node in nodes:
        data = lab.directory(node) / "data"
        memory = MemoryFile(data / "node.json", open_vault(data, None)).load()
        assert memory is not None
        found |= {memory.gossip_key, *memory.gossip_also}
    return found


def _states_until(lab: Lab, over: Callable[[], bool]) -> set[str]:
    """What ``node ls`` says of all nodes until ``over``."""
    seen: set[str] = set()

    def look() -> bool:
        seen.update(lab.node_column("Status").values())
        return over()

    eventually("it is over", look)
    return seen


def test_a_removed_node_that_comes_back_is_told_so_and_ends_its_tasks(lab: Lab) -> None:
    lab.create("web", "--mode", "global")
    lab.until_running("web", 3)
    before = _gossip_keys(lab, "node1", "node2", "node3")
    lab.local("kill", "node3")
    lab.until_node("node3", "Down")
    lab.ask("node", "rm", "node3")
    assert set(lab.node_column("Status")) == {"node1", "node2"}
    lab.local("start", "node3")
    try:
        eventually(
            "the removed node says what happened",
            lambda: lab.on("node3", "info").out,
            lambda text: "is not part of this swarm any more" in text,
        )
        assert set(lab.node_column("Status")) == {"node1", "node2"}
        lab.until_running("web", 2)
        during = _states_until(lab, lambda: _gossip_keys(lab, "node1", "node2").isdisjoint(before))
        assert during == {"Ready"}, "nobody was cut off when the gossip key changed"
        assert len(_gossip_keys(lab, "node1", "node2")) == 1
    finally:
        _leave(lab, "node3")
        _join_again(lab, "node3")
    lab.until_running("web", 3)


def test_the_printed_command_makes_a_node_a_worker(lab: Lab, outsider: str) -> None:
    text = lab.ask("swarm", "join-token", "worker")
    assert "To add a worker to this swarm, run the following command:" in text
    (command,) = [line.split() for line in text.splitlines() if "swarmctl swarm join" in line]
    assert command[-1] == _manager(lab)
    said = lab.ask(*command[1:], "--advertise-addr", "eth0", node=outsider)
    assert said == "This node joined a swarm as a worker."
    lab.until_ready()
    assert lab.node_column("ManagerStatus")[outsider] == ""


def test_a_token_that_is_none_is_refused_and_the_node_stays_outside(lab: Lab, outsider: str) -> None:
    whole = _token(lab)
    head, _, secret = whole.rpartition("-")
    wrong_secret = f"{head}-{secret[::-1]}"
    for token, said in (
        ("nonsense", "invalid join token"),
        (head, "invalid join token"),
        (wrong_secret, "A valid join token is necessary to join this cluster"),
    ):
        assert said in lab.refusal(*_join(lab, outsider, token), node=outsider)
        assert _state(lab, outsider) == "inactive"


def test_a_rotated_token_is_dead_at_once_and_the_new_one_works(lab: Lab, outsider: str) -> None:
    old = _token(lab)
    fresh = _token(lab, "--rotate")
    assert fresh != old
    assert "A valid join token is necessary" in lab.refusal(*_join(lab, outsider, old), node=outsider)
    lab.ask(*_join(lab, outsider, fresh), node=outsider)
    lab.until_ready()


def test_a_token_for_one_drained_node_with_a_label_does_just_that(lab: Lab, outsider: str) -> None:
    made = ("--label", "zone=a", "--uses", "1", "--expires", "1h", "--availability", "drain")
    token = lab.ask("swarm", "token", "create", "-q", *made)
    row = lab.ask("swarm", "token", "ls", "-q")
    assert lab.ask("swarm", "token", "ls", "--format", "{{.Labels}} {{.UsesLeft}}") == "zone=a 1 of 1"
    lab.ask(*_join(lab, outsider, token), node=outsider)
    lab.until_ready()
    shown = lab.ask("node", "inspect", outsider, "--format", "{{.Spec.Labels.zone}} {{.Spec.Availability}}")
    assert shown == "a drain"
    written = "".join(lab.ask("swarm", "audit", node=node) for node in lab.addresses)
    assert f'"answer":{{"view.id":"{row}"}}' in written, "made"
    assert '"method":"ClusterPort/Join"' in written, "used"
    assert token.rpartition("-")[2] not in written
    _leave(lab, outsider)
    _forget(lab, outsider)
    assert "used as often as it may be" in lab.refusal(*_join(lab, outsider, token), node=outsider)
    lab.ask("swarm", "token", "rm", row)
    assert "A valid join token is necessary" in lab.refusal(*_join(lab, outsider, token), node=outsider)
    assert _state(lab, outsider) == "inactive"


def test_the_token_of_another_swarm_is_refused_before_it_is_sent(lab: Lab, outsider: str) -> None:
    said = lab.ask("swarm", "init", "--advertise-addr", "eth0", node=outsider)
    foreign = lab.ask("swarm", "join-token", "-q", "worker", node=outsider)
    assert f"swarmctl swarm join --token {foreign} {lab.addresses[outsider]}:2377" in said
    _leave(lab, outsider)
    sentence = lab.refusal(*_join(lab, outsider, foreign), node=outsider)
    assert "remote CA does not match fingerprint" in sentence
    assert _state(lab, outsider) == "inactive"


def test_an_address_without_a_manager_is_named(lab: Lab, outsider: str) -> None:
    nobody = f"{lab.addresses['node2']}:2377"
    sentence = lab.refusal("swarm", "join", "--token", _token(lab), nobody, node=outsider)
    assert nobody in sentence
    assert _state(lab, outsider) == "inactive"


def test_a_directory_that_mixes_two_swarms_is_refused_and_works_when_it_is_whole(
    lab: Lab, outsider: str
) -> None:
    data = lab.directory(outsider) / "data"
    lab.ask("swarm", "init", "--advertise-addr", lab.addresses[outsider], node=outsider)
    shutil.copytree(data / "identity", lab.root / "foreign")
    _leave(lab, outsider)
    lab.ask(*_join(lab, outsider, _token(lab)), node=outsider)
    lab.until_ready()
    lab.local("stop", outsider)
    shutil.move(data / "identity", lab.root / "own")
    shutil.move(lab.root / "foreign", data / "identity")
    try:
        lab.local("start", outsider)
        eventually(
            "the daemon says what is wrong",
            lambda: lab.on(outsider, "info").out,
            lambda text: "comes from another node" in text,
        )
        assert "comes from another node" in lab.refusal("node", "ls", node=outsider)
        lab.until_node(outsider, "Down")
    finally:
        lab.local("stop", outsider)
        shutil.rmtree(data / "identity")
        shutil.move(lab.root / "own", data / "identity")
        lab.local("start", outsider)
    lab.until_ready()
