"""What this machine is: for the managers' scheduler and for people."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path

from swarmd.model.objects import FEATURE_LEVEL, NodeDescription


def describe(
    engine_version: str, labels: Mapping[str, str], runtimes: tuple[str, ...] = ()
) -> NodeDescription:
    """Host name, CPUs this process may use, memory of the machine; ``runtimes`` as they were found."""
    return NodeDescription(
        hostname=socket.gethostname(),
        os="linux",
        arch=platform.machine(),
        nano_cpus=len(os.sched_getaffinity(0)) * 1_000_000_000,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        engine_version=engine_version,
        labels=dict(labels),
        feature_level=FEATURE_LEVEL,
        runtimes=runtimes,
    )


def resolver_settings() -> str:
    """The node's own /etc/resolv.conf; empty when it has none."""
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""
