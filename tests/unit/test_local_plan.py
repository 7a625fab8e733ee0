"""What a local cluster will consist of."""

from __future__ import annotations

import msgspec
import pytest

from swarmd.cli.local.core.plan import (
    Cluster,
    Paths,
    Process,
    check_name,
    check_root,
    daemon_argv,
    etc_files,
    free_subnet,
    plan_cluster,
)
from swarmd.model.errors import Conflict, Invalid, NotFound


def planned(name: str = "local", nodes: int = 3, managers: int = 1, taken: tuple[str, ...] = ()) -> Cluster:
    return plan_cluster(
        name, nodes=nodes, managers=managers, taken=taken, daemon=("d", "--data={data}", "{run}")
    )


def test_nodes_are_numbered_from_one_with_addresses_from_eleven() -> None:
    cluster = planned()
    assert [(n.name, n.address) for n in cluster.nodes] == [
        ("node1", "172.30.1.11"),
        ("node2", "172.30.1.12"),
        ("node3", "172.30.1.13"),
    ]
    assert (cluster.gateway, cluster.prefix, cluster.link) == ("172.30.1.1", 24, "swl-local")


def test_the_first_nodes_are_the_managers() -> None:
    assert [n.role for n in planned(nodes=4, managers=3).nodes] == ["manager"] * 3 + ["worker"]


def test_the_largest_cluster_fits_into_its_subnet() -> None:
    assert planned(nodes=200).nodes[-1].address == "172.30.1.210"


@pytest.mark.parametrize(("nodes", "managers"), [(0, 1), (201, 1), (3, 0), (3, 4)])
def test_impossible_sizes_are_refused(nodes: int, managers: int) -> None:
    with pytest.raises(Invalid, match=r"--(nodes|managers) is"):
        planned(nodes=nodes, managers=managers)


@pytest.mark.parametrize("name", ["", "Local", "a_b", "-a", "a-", "abcdefghijkl", "../x", "a b"])
def test_names_that_could_not_be_a_link_or_directory_are_refused(name: str) -> None:
    with pytest.raises(Invalid, match="cannot be used"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "local", "my-swarm-2", "abcdefghijk"])
def test_ordinary_names_are_taken(name: str) -> None:
    check_name(name)


def test_a_subnet_in_use_is_passed_over_however_it_is_written() -> None:
    assert free_subnet([]) == "172.30.1.0/24"
    assert free_subnet(["172.30.1.0/24"]) == "172.30.2.0/24"
    assert free_subnet(["172.30.1.7"]) == "172.30.2.0/24"
    assert free_subnet(["172.30.0.9/22", "10.0.0.0/8"]) == "172.30.4.0/24"


def test_without_a_free_subnet_there_is_a_sentence() -> None:
    with pytest.raises(Conflict, match="is free"):
        free_subnet(["172.16.0.0/12"])


def test_a_root_without_room_for_sockets_or_hidden_in_nodes_is_refused() -> None:
    check_root("/var/lib/swarmd-local")
    for root in ("relative", "/run/swarms", "/run", "/proc/x", "/" + "x" * 90):
        with pytest.raises(Invalid, match="SWARMD_LOCAL_ROOT"):
            check_root(root)


def test_the_longest_root_allowed_is_the_one_the_error_names() -> None:
    with pytest.raises(Invalid) as refused:
        check_root("/" + "x" * 90)
    longest = int(str(refused.value).partition("at most ")[2].split()[0])
    check_root("/" + "x" * (longest - 1))
    with pytest.raises(Invalid):
        check_root("/" + "x" * longest)


def test_the_daemon_command_has_its_blanks_filled_and_other_braces_kept() -> None:
    cluster = msgspec.structs.replace(
        planned(), daemon=("d", "--data={data}", "{run}", "{what}", "{name}@{address}")
    )
    argv = daemon_argv(cluster, cluster.nodes[1], Paths(home="/r/local/node2"))
    assert argv == ["d", "--data=/r/local/node2/data", "/r/local/node2/run", "{what}", "node2@172.30.1.12"]


def test_every_node_knows_the_names_of_all() -> None:
    cluster = planned()
    files = etc_files(cluster, cluster.nodes[2])
    assert files["hostname"] == "node3\n"
    assert "172.30.1.11\tnode1\n" in files["hosts"]
    assert "172.30.1.13\tnode3\n" in files["hosts"]


def test_a_node_keeps_its_hardware_address_and_shares_it_with_none() -> None:
    assert planned().nodes[0].mac == "02:fd:ac:1e:01:0b"
    assert len({node.mac for node in planned(nodes=200).nodes}) == 200


def test_an_unknown_node_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="its nodes are: node1, node2, node3"):
        planned().node("node4")


def test_the_record_survives_being_written_and_read() -> None:
    cluster = planned()
    changed = msgspec.structs.replace(
        cluster.nodes[1],
        process=Process(pid=7, started=8, boot="b"),
        ended="killed",
        cut=True,
        cgroups=("/a",),
    )
    written = msgspec.json.encode(cluster.with_node(changed))
    read = msgspec.json.decode(written, type=Cluster)
    assert read.node("node2") == changed
    assert read.node("node1") == cluster.nodes[0]
