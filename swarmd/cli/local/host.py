"""This machine, as far as a local cluster needs it: commands, privileges, mounts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from swarmd.cli.local.core.hierarchies import unescape
from swarmd.model.errors import Denied, Unavailable

_TOOLS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "umount": "util-linux"}
_SECONDS = 30.0


def require() -> None:
    """:class:`Denied` or :class:`Unavailable` unless nodes can be made here."""
    if os.geteuid() != 0:
        raise Denied(
            "A local cluster needs root: its nodes are network, mount and pid namespaces of this machine. "
            "Run the same command with sudo."
        )
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        packages = ", ".join(sorted({_TOOLS[tool] for tool in missing}))
        raise Unavailable(f"Not found on this machine: {', '.join(missing)}. Install {packages}.")


def run(argv: Sequence[str], *, stdin: str = "") -> str:
    """The command's output; :class:`Unavailable` with what it said when it fails."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f'"{" ".join(argv)}" gave no answer within {_SECONDS:.0f} s.') from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise Unavailable(f'"{" ".join(argv)}" failed: {said}')
    return done.stdout


def mounts_below(directory: str) -> list[str]:
    """Mount points at or below ``directory``, innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = unescape(line.split(" ")[4])
        if f"{target}/".startswith(f"{directory}/"):
            found.append(target)
    return found[::-1]
