"""CPU that elements of nftables cost: as a node writes them, and as ``nft -f`` does with their text.

The node starts from what is wanted, so its figure holds the comparison, the encoding and the kernel's work;
the messages alone, encoded before, are the floor.  All in turns, in a network namespace of its own, with the
product's ruleset loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import statistics
import struct
import subprocess
import sys
from collections.abc import Callable

from swarmd.node.mesh.core.buckets import SMALL
from swarmd.node.mesh.core.table import Difference, Elements
from swarmd.node.network import nfset, ruleset
from swarmd.node.network.tables import Tables
from swarmd.node.network.wire import NETFILTER, Netlink

MAP = "ep"
PORTS, CHANGED = 1000, 6
"""60,000 elements; of these so many change when a task leaves."""
_BASE = ruleset.Options(port=4789, device="lo", keep_source=True, generation=0)


def elements(turn: int) -> Elements:
    """What 1,000 published ports have in the kernel.  With another turn every value is another."""
    return {
        struct.pack("!B3xH2xI", 6, 10_000 + port, 0)[:8] + struct.pack("=I", bucket):
            struct.pack("!BBBBH2x", 10, 128 + turn, port % 250, bucket, 80)
        for port in range(PORTS) for bucket in range(SMALL)
    }  # fmt: skip


def written(found: Elements) -> str:
    """In nft's words."""

    def one(key: bytes, value: bytes | None) -> str:
        port, bucket = struct.unpack("!H", key[4:6])[0], struct.unpack("=I", key[8:])[0]
        assert value is not None
        address = socket.inet_ntoa(value[:4])
        return f"tcp . {port} . {bucket} : {address} . {struct.unpack('!H', value[4:6])[0]}"

    return ", ".join(one(*pair) for pair in found.items())


def replaced(before: Elements, after: Elements) -> str:
    keys = ", ".join(pair.partition(" : ")[0] for pair in written(before).split(", "))
    place = f"element ip {ruleset.TABLE} {MAP}"
    return f"delete {place} {{ {keys} }}\nadd {place} {{ {written(after)} }}\n"


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def spent(act: Callable[[], object]) -> float:
    """Milliseconds of CPU, with the processes it starts."""

    def now() -> float:
        used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(one.ru_utime + one.ru_stime for one in used)

    began = now()
    act()
    return (now() - began) * 1000


class Bench:
    def __init__(self) -> None:
        self.netlink = Netlink(NETFILTER)
        self.all = [elements(0), elements(1)]
        self.few = [dict(list(one.items())[:CHANGED]) for one in self.all]
        self.empty()

    def empty(self) -> None:
        asyncio.run(ruleset.load(ruleset.base(("ip",), _BASE)[0]))
        self.tables = Tables(self.netlink)

    def fill(self) -> None:
        self.tables.want("ip", {MAP: self.all[0]})
        self.tables.write()

    def change(self, turn: int) -> None:
        self.tables.change("ip", {MAP: Difference(self.few[1 - turn], self.few[turn])})
        self.tables.write()

    def bare(self) -> Callable[[], None]:
        """The same messages without what decides on them."""
        change = nfset.Change("ip", MAP, flush=True, remove={}, add=self.all[0])
        made = nfset.messages(ruleset.TABLE, change)
        real = nfset.messages

        def send() -> None:
            nfset.messages = lambda table, change: made
            try:
                nfset.commit(self.netlink, ruleset.TABLE, [change])
            finally:
                nfset.messages = real

        return send


def measure(rounds: int) -> dict[str, tuple[float, float]]:
    """Medians in milliseconds: 60,000 elements, and a few of them."""
    bench = Bench()
    found: dict[str, tuple[list[float], list[float]]] = {}
    text = f"add element ip {ruleset.TABLE} {MAP} {{ {written(bench.all[0])} }}\n"

    def note(who: str, whole: float, one: float) -> None:
        wholes, ones = found.setdefault(who, ([], []))
        wholes.append(whole)
        ones.append(one)

    for _ in range(rounds):
        bench.empty()
        whole = spent(bench.fill)
        note(
            "swarmd",
            whole,
            statistics.median(spent(lambda t=turn: bench.change(t % 2)) for turn in range(1, 21)),
        )
        bench.empty()
        whole = spent(lambda: nft(text))
        few = [replaced(bench.few[1 - turn % 2], bench.few[turn % 2]) for turn in range(1, 7)]
        note("nft -f", whole, statistics.median(spent(lambda one=one: nft(one)) for one in few))
        bench.empty()
        note("messages alone", spent(bench.bare()), 0.0)
    return {
        who: (statistics.median(wholes), statistics.median(ones)) for who, (wholes, ones) in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.here:
        command = [
            "unshare",
            "-n",
            sys.executable,
            "-m",
            "benchmarks.bench_elements",
            "--here",
            *sys.argv[1:],
        ]
        raise SystemExit(subprocess.run(command, check=False).returncode)
    found = measure(options.rounds)
    peer = found["nft -f"]
    print(f"elements of nftables, CPU in ms (load {os.getloadavg()[0]:.0f}); in brackets as a part of nft -f")
    print(f"{'':16}{PORTS * SMALL:>10} at once{CHANGED:>12} of them")
    for who, (whole, one) in found.items():
        few = f"{one:14.2f} ({one / peer[1]:.2f})" if one else ""
        print(f"{who:16}{whole:10.0f} ({whole / peer[0]:.2f}){few}")


if __name__ == "__main__":
    main()
