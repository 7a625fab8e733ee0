"""The node's network gives names to the containers it connects, also after a restart of its daemon."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from swarmd.node.dns.sockets import PORT
from swarmd.node.network.port import Attachment, NetworkView, ServiceView
from tests.integration.network_bed import Bed, Container, bed

pytestmark = pytest.mark.root

NETWORKS = (("n1", ("10.0.5.11",)),)


@pytest.fixture(scope="module")
def swarm() -> Iterator[Bed]:
    with bed(1, name="dns") as made:
        yield made


def dig(container: Container, name: str) -> list[str]:
    command = ["dig", "@127.0.0.11", "+short", "+tries=5", "+timeout=2", name]
    done = subprocess.run(
        ["nsenter", f"--net={container.namespace}", *command], check=False, capture_output=True, text=True
    )
    return done.stdout.split()


def is_served(container: Container, protocol: str) -> bool:
    return f"0B00007F:{PORT:04X} " in Path(f"/proc/{container.pid}/net/{protocol}").read_text()


def tell(swarm: Bed, address: str) -> None:
    state = msgspec.structs.replace(
        swarm.state(),
        networks=(NetworkView("n1", "front", ("10.0.5.0/24",)),),
        services=(ServiceView("s1", "web", "n1", (address,)),),
    )
    swarm.nodes[0].call("apply", state=msgspec.to_builtins(state))


def test_names_come_with_the_connection_and_go_with_it(swarm: Bed) -> None:
    made = Container(swarm.nodes[0], "asker")
    swarm.containers.append(made)
    tell(swarm, "10.0.5.2")
    made.attach(networks=NETWORKS, names=("me",))
    assert (dig(made, "web"), dig(made, "me")) == (["10.0.5.2"], ["10.0.5.11"])
    tell(swarm, "10.0.5.3")
    assert dig(made, "web") == ["10.0.5.3"]
    assert [is_served(made, protocol) for protocol in ("udp", "tcp")] == [True, True]
    made.node.call("detach", task_id="asker")
    assert [is_served(made, protocol) for protocol in ("udp", "tcp")] == [False, False]


def test_a_container_in_no_network_of_the_swarm_is_left_alone(swarm: Bed) -> None:
    made = swarm.container(1, "plain")
    assert not is_served(made, "udp")


def test_names_are_answered_again_after_a_restart(swarm: Bed) -> None:
    node = swarm.nodes[0]
    made = Container(node, "stays")
    swarm.containers.append(made)
    tell(swarm, "10.0.5.4")
    address = made.attach(networks=NETWORKS)
    node.end()
    node.boot()
    node.call("configure", self_node=msgspec.to_builtins(node.view))
    known = Attachment("stays", made.pid, address, networks=NETWORKS, names=("still",))
    assert node.call("restore", attachments=[msgspec.to_builtins(known)]) == []
    assert dig(made, "still") == ["10.0.5.11"]
    tell(swarm, "10.0.5.5")
    assert dig(made, "web") == ["10.0.5.5"]
