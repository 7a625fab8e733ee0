"""Lets crun, runc or runsc run the same bundles: finds the program, fits the bundle, compiles the plan.

The spawner's child that obeys the plan (``child_foreign.py``) is the container's parent; the pid that counts,
for its namespaces and for signals, is the one the runtime wrote into its pid file.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.runtime import kernel, kernfiles
from swarmd.node.runtime.child_paths import read_text
from swarmd.node.runtime.core import foreign, linux, oci, users
from swarmd.node.runtime.core.extensions import Extensions, extensions
from swarmd.node.runtime.core.facts import Layout
from swarmd.node.runtime.core.foreign import Directions, Who
from swarmd.node.runtime.port import ContainerConfig

_PID_FILE = "container.pid"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # the daemon's own may be shorter


def prepare(config: ContainerConfig, spec: oci.Spec, layout: Layout) -> tuple[oci.Spec, list[foreign.Step]]:
    """The bundle for the runtime that a config names, and the plan of the child that calls it.

    Raises :class:`Invalid` for a runtime that this node does not have, and for what it cannot do.
    """
    foreign.check(config.runtime, tty=config.tty)
    directions = directions_for(config.runtime, layout.bundle)
    extra = extensions(spec.annotations)
    staged = {
        target: _stage(layout, number, *extra.subpaths[target])
        for number, target in enumerate(extra.subpaths)
    }
    steps = foreign.compile_plan(
        spec,
        layout,
        directions,
        staged,
        container_id=config.id,
        cgroups=foreign.mounted(kernfiles.read("/proc/self/mountinfo")),
    )
    os.makedirs(directions.state, mode=0o700, exist_ok=True)
    return foreign.fit(spec, config.runtime, _who(config, extra), staged), steps


def installed() -> tuple[str, ...]:
    """The names of the runtimes that containers of this node can be given, ours first."""
    return (foreign.LOCAL, *(name for name in foreign.NAMES if shutil.which(name, path=_PATH) is not None))


def check_default(name: str) -> None:
    """Raises :class:`Invalid` if the runtime that a node is to use by default is not there."""
    if name not in ("", foreign.LOCAL):
        foreign.check(name, tty=False)
        directions_for(name, "")


def is_foreign(config: ContainerConfig) -> bool:
    return foreign.is_other(config.runtime)


def directions_for(name: str, directory: str) -> Directions:
    """For the container of a directory; :class:`Invalid` if the node does not have the program."""
    program = shutil.which(name, path=_PATH)
    if program is None:
        raise Invalid(
            f"runtime {name} is not installed on node {os.uname().nodename}: install the package {name} "
            f"there, or use the runtime {foreign.LOCAL}"
        )
    return Directions(
        name=name,
        program=program,
        state=f"{directory}/runtime",
        log=f"{directory}/runtime.log",
        pid_file=f"{directory}/{_PID_FILE}",
    )


def first_process(config: ContainerConfig, directory: Path, pid: int, pidfd: int) -> tuple[int, int]:
    """(pid, pidfd) of the container's first process, from those that the spawner knows.

    They are those of its parent where another runtime made it; it stays so for one that has ended already.
    """
    if not is_foreign(config):
        return int(pid), pidfd
    try:
        first = int((directory / _PID_FILE).read_text())
        found = os.pidfd_open(first)
    except (OSError, ValueError):
        return int(pid), pidfd
    if _parent(first) != int(pid):  # looked at after it was opened: a number that is another's by now
        os.close(found)
        return int(pid), pidfd
    os.close(pidfd)
    return first, found


def _parent(pid: int) -> int:
    for line in kernfiles.read(f"/proc/{pid}/status").splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    return 0


def _stage(layout: Layout, number: int, source: str, below: str) -> str:
    """A place for what is below a volume: a directory, or a file where that is one."""
    place = Path(layout.files, f"mount-{number}")
    base = os.open(source, linux.O_PATH)
    try:
        inner = kernel.openat2(base, below, linux.O_PATH, linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        raise Invalid(f"mount source {source}/{below}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(base)
    try:
        if os.path.isdir(f"/proc/self/fd/{inner}"):
            place.mkdir(mode=0o700)
        else:
            place.touch(mode=0o600)
    finally:
        os.close(inner)
    return str(place)


def _who(config: ContainerConfig, extra: Extensions) -> Who:
    passwd, group = _file(config, "/etc/passwd"), _file(config, "/etc/group")
    try:
        uid, gid, groups, home = users.resolve(extra.user or "", passwd, group, extra.groups)
    except ValueError as error:
        raise Invalid(str(error)) from None
    return Who(uid, gid, tuple(groups), home)


def _file(config: ContainerConfig, path: str) -> str:
    """A file of the image: that of the topmost layer which has it."""
    for layer in config.lower_dirs:
        try:
            root = os.open(layer, linux.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            raise Unavailable(f"image layer {layer}: {error.strerror}") from error
        try:
            text = read_text(root, path)
        finally:
            os.close(root)
        if text or os.path.lexists(layer + path):  # a file that is empty or gone hides those below
            return text
    return ""
