"""The flags of one container as ``docker run`` spells them: those of services, renamed, and a few more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from swarmd.cli import container_edit as edit
from swarmd.cli import container_flags as flags
from swarmd.cli.flag_table import COUNT, TEXT, Collection, Entry, Field, apply_making, options
from swarmd.cli.grammar import F, Parsed
from swarmd.cli.mount_text import parse_tmpfs, parse_volume
from swarmd.cli.spec_text import parse_count

if TYPE_CHECKING:
    from swarmd.rpc.v1 import types_pb2

NAMES = {
    "limit-cpu": "cpus", "limit-memory": "memory", "host": "add-host",
    "group": "group-add", "container-label": "label",
}  # fmt: skip
SHORT = {"limit-memory": "-m", "hostname": "-h", "container-label": "-l"}


def parse_pids(text: str) -> int:
    """A number of processes; -1 is as many as they like, as in Docker."""
    return 0 if text == "-1" else parse_count(text)


ONLY: tuple[Entry, ...] = (
    Field("entrypoint", Parsed("string", lambda text: [text]), f"{flags.CONTAINER}.command",
          "Overwrite the image's entrypoint"),
    Field("pids-limit", Parsed("int", parse_pids), f"{flags.LIMITS}.pids",
          "Limit the number of processes (0 or -1 = no limit)"),
    Field("stop-timeout", COUNT, f"{flags.CONTAINER}.stop_grace", "Seconds before a kill (10)"),
    Collection("volume", Parsed("volume", parse_volume), TEXT, edit.mounts,
               "Volume or directory ([SOURCE:]TARGET[:OPTIONS])", "", "-v"),
    Collection("tmpfs", Parsed("tmpfs", parse_tmpfs), TEXT, edit.mounts,
               "File system in memory (TARGET[:OPTIONS])", ""),
)  # fmt: skip
NOT_HERE = {"entrypoint", "stop-grace-period", "limit-pids"}
MOUNTING = ("mount", "volume", "tmpfs")


def _field(it: Field) -> Field:
    return it._replace(name=NAMES.get(it.name, it.name), short=SHORT.get(it.name, it.short))


def _collection(it: Collection) -> Collection:
    return it._replace(name=NAMES.get(it.name, it.name), short=SHORT.get(it.name, it.short))


TABLE: tuple[Entry, ...] = (
    *(_field(it) for it in (*flags.FIELDS, *flags.RESOURCES) if it.name not in NOT_HERE),
    *flags.SETTINGS,
    *(_collection(it) for it in flags.COLLECTIONS),
    *ONLY,
)


def run_options(command: F) -> F:
    """Decorate a command with these flags."""
    return options(command, TABLE)


def apply_run(spec: types_pb2.ServiceSpec, given: Mapping[str, Any]) -> None:
    """Everything ``run`` was told, into ``spec.template``: container, limits, runtime.

    Raises ValueError with a sentence.
    """
    targets = Counter(mount.target for name in MOUNTING for mount in given[name])
    for target, times in targets.items():
        if times > 1:
            raise ValueError(f"Duplicate mount point: {target}")
    apply_making(spec, TABLE, given)
