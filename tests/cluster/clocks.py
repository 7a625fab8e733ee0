"""Daemons whose wall clock follows a file: libfaketime."""

from __future__ import annotations

from pathlib import Path

LIBFAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)

FOLLOWING = (
    f"LD_PRELOAD={LIBFAKETIME}",
    "FAKETIME_TIMESTAMP_FILE={data}/clock",
    "FAKETIME_CACHE_DURATION=1",
    "FAKETIME_DONT_FAKE_MONOTONIC=1",
    # A cure for old C libraries, under which whoever waits for a condition with a limit runs in circles here.
    "FAKETIME_FORCE_MONOTONIC_FIX=0",
)
"""The environment of a daemon of a local cluster, whose command line has ``{data}`` replaced."""


def set_clock(data: Path, offset: int) -> None:
    """Step the wall clock of the daemon with that data directory to ``offset`` seconds from the true time."""
    fresh = data / "clock.new"
    fresh.write_text(f"{offset:+d}\n")
    fresh.replace(data / "clock")
