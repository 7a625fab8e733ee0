"""The command ``exec``: a further program in a container."""

from __future__ import annotations

import contextlib
import marshal
import os
import socket

from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.runtime import hostfacts, kernel
from swarmd.node.runtime.core import linux, oci, oci_exec
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.core.failures import creation_failure
from swarmd.node.runtime.core.oci_state import Record
from swarmd.node.runtime.core.plan import Step, filter_flags
from swarmd.node.runtime.ocicli import console, filters, groups, inside, launch
from swarmd.node.runtime.ocicli.console import OwnTerminal
from swarmd.node.runtime.ocicli.context import Context
from swarmd.node.runtime.ocicli.grammar import Words
from swarmd.node.runtime.ocicli.making import wait

_SPACES = (
    ("mnt", linux.CLONE_NEWNS), ("uts", linux.CLONE_NEWUTS), ("ipc", linux.CLONE_NEWIPC),
    ("net", linux.CLONE_NEWNET), ("cgroup", linux.CLONE_NEWCGROUP), ("user", linux.CLONE_NEWUSER),
    ("time", linux.CLONE_NEWTIME), ("pid", linux.CLONE_NEWPID),
)  # fmt: skip


def exec_(context: Context, words: Words) -> int:
    """Answers the program's exit code; with ``--detach`` 0 as soon as it runs."""
    container_id = words.operands[0]
    detach = words.has("detach")
    record = context.store.load(container_id)
    context.require(record, "running", "created", doing="execute a program in")
    spec = oci.decode(context.store.config(container_id))
    process = _process(spec, words)
    if process.terminal and detach and not words.text("console-socket"):
        raise Invalid("use --console-socket with --detach when a terminal is used")
    pidfd, master = _launch(context, record, spec, process, words)
    if detach:
        return 0
    terminal = OwnTerminal(master) if master >= 0 else None
    try:
        return wait(pidfd, terminal)
    finally:
        if terminal is not None:
            terminal.close()


def _process(spec: oci.Spec, words: Words) -> oci.Process:
    """From the --process file, or the container's own with what the options say."""
    if words.text("process"):
        try:
            with open(words.text("process"), "rb") as file:
                process = oci.read(file.read(), oci.Process, "process")
        except OSError as error:
            raise Invalid(f"cannot read {words.text('process')}: {error.strerror}") from error
        if not process.args:
            raise Invalid(f"{words.text('process')}: args is empty: there is no program to run")
        return process
    if spec.process is None:
        raise Invalid("the container's config.json has no process to take the defaults from")
    asked = oci_exec.Asked(
        args=words.operands[1:],
        env=words.texts("env"),
        cwd=words.text("cwd"),
        user=words.text("user"),
        caps=words.texts("cap"),
        tty=words.has("tty") and words.text("tty") not in ("false", "no", "0"),
        no_new_privs=words.has("no-new-privs"),
    )
    return oci_exec.changed(spec.process, asked)


def _launch(
    context: Context, record: Record, spec: oci.Spec, process: oci.Process, words: Words
) -> tuple[int, int]:
    """(pidfd, master or -1) when the program has been executed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    target = context.open_process(record)
    where = _groups(context, record, words.text("cgroup"))
    steps = _steps(context, record, spec, process, where)
    brought = inside.Brought(
        channel=theirs.fileno(), pidfd=target, preserved=words.number("preserve-fds") or 0
    )
    with contextlib.suppress(OSError):  # the same pid namespace: there is nothing to enter
        kernel.setns(target, linux.CLONE_NEWPID)
    kernel.prctl(linux.PR_SET_DUMPABLE, 0)  # the child is seen in the container from its first moment
    cgroup = os.open(where.v2, linux.O_PATH | os.O_DIRECTORY) if where.v2 else -1
    pid, pidfd = kernel.clone(0, cgroup)
    if pid == 0:
        inside.main(brought, steps)
    theirs.close()
    os.close(target)
    try:
        master = _talk(ours, words.text("console-socket"))
        if words.text("pid-file"):
            launch.write_pid_file(words.text("pid-file"), pid)
        ours.send(inside.GO)
        answer = ours.recv(inside.PACKET)
        if answer:
            raise creation_failure(*marshal.loads(answer)[1:])
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            kernel.pidfd_send_signal(pidfd, linux.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        raise
    finally:
        ours.close()
    return pidfd, master


def _talk(line: socket.socket, console_socket: str) -> int:
    """Until the child is ready; answers the master of its terminal if it is ours to use, else -1."""
    master = -1
    while True:
        (kind, *values), fds = launch.receive(line)
        if kind == "ready":
            return master
        if kind == "error":
            raise creation_failure(*values)
        if kind == "terminal" and console_socket:
            console.hand_over(console_socket, fds[0])
        elif kind == "terminal":
            master = fds[0]


def _groups(context: Context, record: Record, below: str) -> ContainerGroups:
    """Those of the container, or ``below`` them."""
    where = context.groups(record)
    if not below:
        return where
    if ".." in below.split("/"):
        raise Invalid(f"--cgroup {below!r} leads out of the container's groups")
    tail = "/" + below.strip("/")
    inner = ContainerGroups(
        where.v2 + tail if where.v2 else "", {name: path + tail for name, path in where.v1.items()}
    )
    absent = groups.missing(inner.paths())
    if absent:
        raise Unavailable(f"--cgroup {below!r}: there is no cgroup {absent[-1]}")
    return inner


def _steps(
    context: Context, record: Record, spec: oci.Spec, process: oci.Process, where: ContainerGroups
) -> list[Step]:
    facts = hostfacts.gather(groups.top())
    flags = 0
    for name, flag in _SPACES:
        if _differs(record.pid, name):
            flags |= flag
    seccomp = filters.program(spec, context.store.root)
    return oci_exec.compile_exec(
        process,
        facts,
        seccomp,
        filter_flags=filter_flags(spec),
        procs=groups.procs_files(where),
        flags=flags & ~linux.CLONE_NEWPID,
        remapped=bool(flags & linux.CLONE_NEWUSER),
    )


def _differs(pid: int, space: str) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/{space}").st_ino != os.stat(f"/proc/self/ns/{space}").st_ino
    except FileNotFoundError:  # this kernel has no such namespaces
        return False
    except OSError as error:
        raise Unavailable(f"the container's process {pid} cannot be looked at: {error.strerror}") from error
