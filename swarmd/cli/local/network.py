"""The switch of a local cluster and the cables to it.

The switch is a bridge in a network namespace of its own, kept by a file in the cluster's directory, with one
port per node and one, ``host``, whose other end is this machine's link ``swl-NAME``::

    this machine                switch                    node1
    swl-local 172.30.1.1 ───── host │ bridge │ node1 ───── eth0 172.30.1.11

So frames between nodes never meet this machine's firewall (a FORWARD policy of drop together with
``bridge-nf-call-iptables`` would swallow them), and nothing of this machine is set for them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from swarmd.cli.local.core.plan import Cluster, Node
from swarmd.cli.local.host import mounts_below, run
from swarmd.model.errors import Unavailable

_BRIDGE = "bridge"
_HOST_PORT = "host"
_NETFILTER = "/proc/sys/net/bridge"


def taken_networks() -> list[str]:
    """Networks and addresses this machine knows: every IPv4 route but the default one, every address."""
    routes = json.loads(run(["ip", "-4", "-json", "route", "show", "table", "all"]) or "[]")
    links = json.loads(run(["ip", "-4", "-json", "address", "show"]) or "[]")
    addresses = [address for link in links for address in link.get("addr_info", []) if "local" in address]
    return [
        *(route["dst"] for route in routes if route["dst"] != "default"),
        *(f"{address['local']}/{address['prefixlen']}" for address in addresses),
    ]


def link_exists(name: str) -> bool:
    """Whether this machine has a link of that name."""
    return Path("/sys/class/net", name).exists()


def _inside(switch: str) -> list[str]:
    return ["nsenter", f"--net={switch}"]


def _batch(argv: list[str], lines: Iterable[str]) -> None:
    run([*argv, "ip", "-batch", "-"], stdin="\n".join(lines) + "\n")


def ensure_switch(cluster: Cluster, switch: str) -> None:
    """Make the switch and this machine's link to it where they are missing (first time, or after a boot)."""
    if not mounts_below(switch):
        Path(switch).touch()
        run(["unshare", f"--net={switch}", "true"])
    ports = _ports(switch)
    if _BRIDGE not in ports:
        _batch(
            _inside(switch),
            ("link set lo up", f"link add name {_BRIDGE} type bridge stp_state 0 forward_delay 0",
             f"link set {_BRIDGE} up"),
        )  # fmt: skip
        # Nothing filters in there: spare the frames the way through the IP hooks.
        run(
            [
                *_inside(switch),
                "sh",
                "-c",
                f"[ ! -d {_NETFILTER} ] || echo 0 > {_NETFILTER}/bridge-nf-call-iptables",
            ]
        )
    if not link_exists(cluster.link):
        peer = f"peer name {cluster.link} netns {os.getpid()}"
        _batch(
            _inside(switch),
            (f"link add name {_HOST_PORT} type veth {peer}", f"link set {_HOST_PORT} master {_BRIDGE} up"),
        )
    run(["ip", "address", "replace", f"{cluster.gateway}/{cluster.prefix}", "dev", cluster.link])
    run(["ip", "link", "set", cluster.link, "up"])


def _ports(switch: str) -> dict[str, bool]:
    """Links of the switch → whether they are plugged into the bridge."""
    links = json.loads(run([*_inside(switch), "ip", "-json", "link", "show"]) or "[]")
    return {link["ifname"]: link.get("master") == _BRIDGE for link in links}


def connect(cluster: Cluster, node: Node, pid: int, switch: str) -> None:
    """Lay the cable: a new port, whose other end is eth0 of the node with pid 1 ``pid``."""
    unplug(node, switch)
    peer = f"peer name eth0 address {node.mac} netns {pid}"
    lines = [f"link add name {node.name} type veth {peer}", f"link set {node.name} up"]
    if not node.cut:
        lines.append(f"link set {node.name} master {_BRIDGE}")
    _batch(_inside(switch), lines)
    _batch(
        ["nsenter", "-t", str(pid), "-n"],
        (
            f"address add {node.address}/{cluster.prefix} dev eth0",
            "link set eth0 up",
            f"route add default via {cluster.gateway} dev eth0",
        ),
    )


def set_cut(node: Node, switch: str, *, cut: bool) -> None:
    """Take the node's port off the bridge or put it back.

    The node keeps its link, address and carrier: frames vanish in both directions, and nobody is told.
    """
    how = "nomaster" if cut else f"master {_BRIDGE}"
    _batch(_inside(switch), [f"link set {node.name} {how}"])


def unplug(node: Node, switch: str) -> None:
    """Remove the node's port, if there is one; the kernel may be about to do so by itself."""
    if mounts_below(switch) and node.name in _ports(switch):
        try:
            run([*_inside(switch), "ip", "link", "delete", node.name])
        except Unavailable:
            if node.name in _ports(switch):
                raise


def remove_switch(cluster: Cluster, switch: str) -> None:
    """Remove the switch with all its ports, this machine's link included."""
    if link_exists(cluster.link):
        run(["ip", "link", "delete", cluster.link])
    if mounts_below(switch):
        # A foreign mount namespace may hold the switch for longer: leave nothing in it.
        for port in _ports(switch):
            if port not in ("lo", _BRIDGE):
                run([*_inside(switch), "ip", "link", "delete", port])
        run(["umount", switch])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(switch)
