"""What sealing costs: group commits to a log, sealed and in the clear, in turns on one disk; prints ratios.

The wall time of a commit is the disk's; what sealing adds is processor time, so both are shown.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from swarmd.kit.ids import random_bytes
from swarmd.security.sealing import PLAIN
from swarmd.security.vault import Vault
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.records import Entry, encode_record
from swarmd.store.raft.wal import Wal

LOADS = (
    ("one change of 300 bytes", 1, 300),
    ("64 changes of 300 bytes", 64, 300),
    ("one of 100 kB", 1, 100_000),
)
ROUNDS = 600


def entries(first: int, count: int, size: int) -> list[Entry]:
    return [Entry(first + number, 1, random_bytes(size)) for number in range(count)]


def wall_ratio(vault: Vault, directory: Path, count: int, size: int) -> tuple[float, float]:
    """(median of sealed ÷ median of clear, the same of the fastest tenths)"""
    sealers = {"clear": PLAIN, "sealed": vault}
    logs = {
        name: Wal(directory / f"{name}-{count}-{size}", 1, SystemDisk(), sealer)
        for name, sealer in sealers.items()
    }
    took: dict[str, list[float]] = {name: [] for name in logs}
    first = 2
    for turn in range(ROUNDS):
        items = entries(first, count, size)
        first += count
        for name in sorted(logs, reverse=turn % 2 == 0):
            begun = time.perf_counter()
            logs[name].commit(items)
            took[name].append(time.perf_counter() - begun)
    for log in logs.values():
        log.close()
    middle = {name: statistics.median(times) for name, times in took.items()}
    fast = {name: statistics.quantiles(times, n=10)[0] for name, times in took.items()}
    return middle["sealed"] / middle["clear"], fast["sealed"] / fast["clear"]


def added_microseconds(vault: Vault, count: int, size: int) -> float:
    """Processor time that sealing adds to the making of one record."""
    items = entries(2, count, size)
    spent = {}
    for name, sealer in (("clear", PLAIN), ("sealed", vault)):
        begun = time.thread_time()
        for number in range(1, 1001):
            encode_record(items, number, 0, epoch=1, sealer=sealer)
        spent[name] = time.thread_time() - begun
    return (spent["sealed"] - spent["clear"]) * 1e3


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        vault = Vault(Path(made) / "vault")
        vault.create()
        for name, count, size in LOADS:
            median, fastest = wall_ratio(vault, Path(made), count, size)
            added = added_microseconds(vault, count, size)
            print(f"{name}: median x{median:.2f}, fastest tenth x{fastest:.2f}, {added:.0f} us of processor")


if __name__ == "__main__":
    main()
