"""Runs the OCI bundle in a directory with the runtime's own plan and child, and ends with its exit code.

A process of its own, because a raw clone needs a single thread.  It prints the pid when the container is
created; ``stdout`` and ``stderr`` are the container's.
"""

from __future__ import annotations

import json
import marshal
import os
import socket
import subprocess
import sys
from pathlib import Path

from swarmd.kit.clock import SystemClock
from swarmd.node.runtime import child, kernel
from swarmd.node.runtime.cgroup import CgroupDriver
from swarmd.node.runtime.core import oci
from swarmd.node.runtime.core.facts import Layout
from swarmd.node.runtime.core.plan import clone_flags, compile_plan
from swarmd.node.runtime.hostfacts import gather
from swarmd.node.runtime.seccomp import Compiler


def main(directory: str) -> int:
    spec = oci.decode(Path(directory, "config.json").read_bytes())
    facts = gather(CgroupDriver(SystemClock()).layout)
    filters = spec.linux.seccomp
    program = Compiler().program(filters) if filters is not None else None
    plan = os.memfd_create("plan")
    os.write(plan, marshal.dumps(compile_plan(spec, facts, Layout(bundle=directory), program)))
    for number in range(3, 16):  # the child wants the low ones for itself
        if number != plan:
            os.dup2(0, number)
    high = os.dup2(plan, 40)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid, _ = kernel.clone(clone_flags(spec))
    if pid == 0:
        child.main(theirs.fileno(), high, (0, 1, 2))
    theirs.close()
    return drive(spec, ours, pid)


def drive(spec: oci.Spec, channel: socket.socket, pid: int) -> int:
    """Answers the child until its program runs, then waits for that."""
    state = {"ociVersion": "1.0.2", "id": "x", "status": "creating", "pid": pid, "bundle": os.getcwd()}
    while packet := channel.recv(65536):
        message = marshal.loads(packet)
        if message[0] == "error":
            print(message, file=sys.stderr)
        elif message[0] == "paused" and message[1] == "create_runtime":
            for hook in (*spec.hooks.prestart, *spec.hooks.create_runtime):  # type: ignore[union-attr]
                subprocess.run([hook.path, *hook.args[1:]], input=json.dumps(state).encode(), check=True)
            channel.send(json.dumps(state).encode())
        else:
            channel.send(json.dumps(state).encode())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.exit(code if code >= 0 else 128 - code)
