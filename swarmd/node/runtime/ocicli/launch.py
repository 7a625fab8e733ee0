"""Makes a container: cgroups, a cloned child that prepares everything, and the state that others find it by.

::

    reserve the id → cgroups with limits → clone → (maps, hooks, terminal as the child asks) → ready
    → pid file, state → the command leaves; the child waits for ``start``
"""

from __future__ import annotations

import contextlib
import marshal
import os
import pwd
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from swarmd.model.errors import Invalid, SwarmError, Unavailable
from swarmd.node.runtime import hostfacts, kernel
from swarmd.node.runtime.core import linux, oci, oci_groups, oci_state
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.core.facts import Layout
from swarmd.node.runtime.core.failures import creation_failure
from swarmd.node.runtime.core.oci_create import completed
from swarmd.node.runtime.core.oci_state import Record
from swarmd.node.runtime.core.plan import Step, clone_flags, compile_plan, entered_before, warnings
from swarmd.node.runtime.ocicli import console, filters, groups, hooks, inside, limiting, waiting
from swarmd.node.runtime.ocicli.context import Context
from swarmd.node.runtime.ocicli.report import timestamp
from swarmd.node.runtime.which_process import boot_id, process_start

_FDS = 4


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What ``create`` and ``run`` are asked for; paths are absolute."""

    id: str
    bundle: str
    config: str
    pid_file: str = ""
    console_socket: str = ""
    preserved: int = 0
    keyring: bool = True
    subreaper: bool = False


class Made(msgspec.Struct, frozen=True):
    """A container that waits to be started: its pidfd, and its terminal if nobody else got it (-1)."""

    record: Record
    spec: oci.Spec
    pidfd: int
    master: int = -1


def create(context: Context, wanted: Wanted, *, keep_terminal: bool = False) -> Made:
    """Everything but the user's program; an error leaves nothing."""
    data = _read(wanted.config)
    spec = oci.decode(data)
    _check(spec, wanted, keep_terminal=keep_terminal)
    top = groups.top()
    facts = hostfacts.gather(top)
    for warning in warnings(spec, facts):
        context.report.warning(warning)
    where = _place(context, spec, wanted, top)
    shown = {name: where.v1.get(name.partition(",")[0], where.v2) for name in facts.cgroup_mounts}
    layout = Layout(
        bundle=wanted.bundle,
        v1_procs=groups.procs_files(where),
        groups={name: path for name, path in shown.items() if path},
    )
    program = filters.program(spec, context.store.root)
    steps = completed(spec, compile_plan(spec, facts, layout, program))
    with context.store.reserved(wanted.id):
        context.store.save_config(wanted.id, data)
        record = _record(spec, wanted, where)
        context.store.save(record)
        try:
            _prepare_groups(context, record, where, spec)
            return _clone(context, record, spec, wanted, steps, keep_terminal=keep_terminal)
        except BaseException:
            with contextlib.suppress(SwarmError):
                groups.remove(where, record.made)
            raise


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}") from error


def _check(spec: oci.Spec, wanted: Wanted, *, keep_terminal: bool) -> None:
    if spec.process is None or not spec.process.args:
        raise Invalid("config.json: process.args is empty: there is no program to run")
    if spec.root is not None and not os.path.isdir(os.path.join(wanted.bundle, spec.root.path)):
        raise Invalid(f"config.json: root.path {spec.root.path!r}: there is no such directory")
    user = spec.namespace("user")
    if user is not None and user.path:
        raise Invalid("config.json: linux.namespaces: joining a user namespace by its path is not supported")
    if spec.process.terminal and not wanted.console_socket and not keep_terminal:
        raise Invalid("use --console-socket: process.terminal is set and nobody is attached")


def _place(context: Context, spec: oci.Spec, wanted: Wanted, top: Any) -> ContainerGroups:
    if context.manager == "disabled":
        return ContainerGroups("", {})
    return oci_groups.place(top, oci_groups.path_of(spec.linux.cgroups_path, wanted.id))


def _record(spec: oci.Spec, wanted: Wanted, where: ContainerGroups) -> Record:
    uid = os.getuid()
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = str(uid)
    return Record(
        id=wanted.id,
        bundle=wanted.bundle,
        rootfs=os.path.join(wanted.bundle, spec.root.path if spec.root is not None else ""),
        created=timestamp(),
        owner=owner,
        annotations=spec.annotations,
        v2=where.v2,
        v1=where.v1,
        made=groups.missing(where.paths()),
        has_poststop=spec.hooks is not None and bool(spec.hooks.poststop),
    )


def _prepare_groups(context: Context, record: Record, where: ContainerGroups, spec: oci.Spec) -> None:
    groups.make(where, record.made)
    if spec.linux.resources is not None and where.paths():
        for warning in limiting.limit(where, spec.linux.resources):
            context.report.warning(warning)


def _clone(
    context: Context,
    record: Record,
    spec: oci.Spec,
    wanted: Wanted,
    steps: list[Step],
    *,
    keep_terminal: bool,
) -> Made:
    listener = waiting.listen(context.store.directory(record.id))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    brought = inside.Brought(
        channel=theirs.fileno(),
        listener=listener.fileno(),
        preserved=wanted.preserved,
        keyring=wanted.keyring,
    )
    pid, pidfd = clone(spec, record.v2, lambda: inside.main(brought, steps))
    theirs.close()
    listener.close()
    talk = _Talk(context, _living(record, pid), pidfd, spec, wanted, keep_terminal=keep_terminal)
    try:
        context.store.save(talk.record)
        talk.until_ready(ours)
        if wanted.pid_file:
            write_pid_file(wanted.pid_file, talk.record.pid)
        ours.send(inside.GO)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            kernel.pidfd_send_signal(talk.pidfd, linux.SIGKILL)
        os.waitid(os.P_PIDFD, talk.pidfd, os.WEXITED)
        raise
    finally:
        ours.close()
    return Made(talk.record, spec, talk.pidfd, talk.master)


def _living(record: Record, pid: int) -> Record:
    return msgspec.structs.replace(record, pid=pid, started=process_start(pid), boot=boot_id())


def clone(spec: oci.Spec, v2: str, child: Callable[[], Any]) -> tuple[int, int]:
    """(pid, pidfd) of a child that runs ``child`` in the namespaces of ``spec``, born in the v2 group."""
    cgroup = os.open(v2, linux.O_PATH | os.O_DIRECTORY) if v2 else -1
    try:
        for path, flag in entered_before(spec):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            kernel.setns(fd, flag)
            os.close(fd)
        pid, pidfd = kernel.clone(clone_flags(spec), cgroup)
        if pid == 0:
            child()
    except OSError as error:
        raise Unavailable(f"cannot clone the container's process: {error.strerror or error}") from error
    finally:
        if cgroup >= 0:
            os.close(cgroup)
    return pid, pidfd


class _Talk:
    """Answers the child until it is ready."""

    def __init__(
        self,
        context: Context,
        record: Record,
        pidfd: int,
        spec: oci.Spec,
        wanted: Wanted,
        *,
        keep_terminal: bool,
    ) -> None:
        self._context, self._spec, self._wanted = context, spec, wanted
        self.record, self.pidfd = record, pidfd
        self._keep_terminal = keep_terminal
        self.master = -1

    def until_ready(self, line: socket.socket) -> None:
        while True:
            (kind, *values), fds = receive(line)
            if kind == "ready":
                return
            if kind == "error":
                raise creation_failure(*values)
            self._answer(line, kind, values, fds)

    def _answer(self, line: socket.socket, kind: str, values: list[Any], fds: list[int]) -> None:
        if kind == "paused":
            line.send(self._run_hooks(values[0]))
        elif kind == "terminal":
            if self._keep_terminal and not self._wanted.console_socket:
                self.master = fds[0]
            else:
                console.hand_over(self._wanted.console_socket, fds[0])
        elif kind == "moved":
            self._move(values[0])

    def _move(self, pid: int) -> None:
        """It cloned itself into a user namespace, as a child of ours too, and goes on when it is alone."""
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self.pidfd = os.pidfd_open(pid)
        self.record = _living(self.record, pid)
        self._context.store.save(self.record)

    def _run_hooks(self, name: str) -> bytes:
        """Ours while the child waits; it runs its own, told the same."""
        state = oci_state.hook_state(self.record, "creating")
        if name == "create_runtime" and self._spec.hooks is not None:
            hooks.run("prestart", self._spec.hooks.prestart, state)
            hooks.run("createRuntime", self._spec.hooks.create_runtime, state)
        return state


def receive(line: socket.socket) -> tuple[tuple[Any, ...], list[int]]:
    """One message of a child; :class:`Unavailable` when it is gone."""
    data, fds, _, _ = socket.recv_fds(line, inside.PACKET, _FDS)
    if not data:
        raise Unavailable("the container's process ended before it was ready")
    return marshal.loads(data), fds


def write_pid_file(path: str, pid: int) -> None:
    """At once or not at all: somebody may wait for it."""
    try:
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(str(pid))
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise Unavailable(f"cannot write the pid file {path}: {error.strerror}") from error
