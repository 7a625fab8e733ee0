"""An image of 100 MB gets to ten nodes from one whose uplink has 100 Mbit/s.

The uplink is a token bucket in the node's namespace.  Beside it stands the least that a way without other
sources could take: the bytes that the nine others need, through that uplink.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from swarmd.cli.client import connect
from swarmd.cli.local.cluster import LocalClusters
from swarmd.cli.local.ports import make_ports
from swarmd.cli.local.state import Root
from swarmd.rpc.v1 import control_pb2, node_pb2

NAME = "dist"
SEED = "node2"
MEGABYTE = 1_000_000
CHUNK = 1 << 20


def image(size: int) -> bytes:
    """A root file system of random bytes, which nothing makes smaller."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("data")
        entry.size = size
        tar.addfile(entry, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()


def socket(node: str) -> str:
    return f"unix://{os.environ['SWARMD_LOCAL_ROOT']}/{NAME}/{node}/run/swarmd.sock"


def import_image(data: bytes) -> None:
    def requests() -> Iterator[node_pb2.ImportImageRequest]:
        yield node_pb2.ImportImageRequest(ref="large:1")
        for start in range(0, len(data), CHUNK):
            yield node_pb2.ImportImageRequest(data=data[start : start + CHUNK])

    with connect(socket(SEED)) as client:
        client.node.ImportImage(requests())


def in_namespace(command: list[str]) -> str:
    """The output of a command in the network of the seed."""
    swarmctl = str(Path(sys.executable).with_name("swarmctl"))
    return subprocess.run(
        [swarmctl, "local", "exec", "--name", NAME, SEED, "--", *command],
        check=True, text=True, capture_output=True,
    ).stdout  # fmt: skip


def interface() -> str:
    """That the seed reaches the others by."""
    routes = in_namespace(["ip", "-o", "-4", "route", "show", "scope", "link"])
    return routes.split(" dev ")[1].split()[0]


def sent(device: str) -> int:
    """Bytes through the seed's uplink so far."""
    return int(in_namespace(["cat", f"/sys/class/net/{device}/statistics/tx_bytes"]))


def preload() -> tuple[float, list[float]]:
    """Seconds until all nodes have it, and when each had it."""
    began, ends = time.monotonic(), []
    with connect(socket("node1")) as client:
        for news in client.control.PreloadImage(control_pb2.PreloadImageRequest(ref="large:1")):
            if news.state == "failed":
                raise SystemExit(f"{news.hostname}: {news.message}")
            if news.state == "done":
                ends.append(time.monotonic() - began)
    return time.monotonic() - began, ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--mbit", type=int, default=100)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if "SWARMD_LOCAL_ROOT" not in os.environ:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="swarmd-bench-"))
            os.environ["SWARMD_LOCAL_ROOT"] = directory
            os.environ["SWARMCTL_CONFIG"] = f"{directory}/contexts.json"
        clusters = LocalClusters(Root(), make_ports(), say=lambda text: print(text, file=sys.stderr))
        clusters.up(NAME, nodes=options.nodes, managers=1)
        stack.callback(clusters.down, NAME)
        import_image(image(options.megabytes * MEGABYTE))
        device = interface()
        in_namespace(
            ["tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{options.mbit}mbit",
             "burst", "256kb", "latency", "50ms"],
        )  # fmt: skip
        before = sent(device)
        total, ends = preload()
        given = (sent(device) - before) / MEGABYTE
    alone = (options.nodes - 1) * options.megabytes * 8 / options.mbit
    print(f"| {options.nodes} nodes, {options.megabytes} MB, uplink {options.mbit} Mbit/s | s |")
    print("|---|---|")
    print(f"| from the one node alone, at least | {alone:.0f} |")
    print(f"| **from node to node** | **{total:.1f}** |")
    print(f"| the first, the median | {sorted(ends)[1]:.1f}, {sorted(ends)[len(ends) // 2]:.1f} |")
    print(f"| MB that the one node gave | {given:.0f} |")


if __name__ == "__main__":
    main()
