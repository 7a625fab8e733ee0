"""What a container sends in its first moment."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from swarmd.node.network import veth
from swarmd.node.network.core.addresses import GATEWAY
from swarmd.node.network.core.sources import Source
from swarmd.node.network.wire import ROUTE, Netlink
from tests.integration.network_bed import inside, run

pytestmark = pytest.mark.root

TIMES = 100
SOURCE = Source("10.128.9.2", ("0.0.0.0/0",))


@pytest.fixture
def namespaces() -> Iterator[tuple[str, int]]:
    """A node's network namespace by its name, and a process in a container's."""
    home = f"first{os.getpid()}"
    run("ip", "netns", "add", home)
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo made; cat"], stdin=-1, stdout=-1)
    assert process.stdout
    assert process.stdin
    try:
        assert process.stdout.readline() == b"made\n"
        yield home, process.pid
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
        run("ip", "netns", "delete", home)


def test_what_a_container_says_first_is_not_lost(namespaces: tuple[str, int]) -> None:
    home, pid = namespaces

    def arrived() -> int:
        with open("/proc/thread-self/net/dev") as file:
            return next(int(line.split()[2]) for line in file if line.split()[0] == "r1:")

    with contextlib.ExitStack() as stack:
        netlink = stack.enter_context(contextlib.closing(inside(home, lambda: Netlink(ROUTE))))
        sock = stack.enter_context(
            inside(f"/proc/{pid}/ns/net", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        )
        found = []
        for _ in range(TIMES):
            veth.create(netlink, "r1", pid, [SOURCE], mac=b"\x02\x66\0\0\0\x01", mtu=1400)
            sock.sendto(b"first", (GATEWAY, 9))
            found.append(inside(home, arrived))
            veth.delete(netlink, "r1")
    assert found.count(0) == 0
