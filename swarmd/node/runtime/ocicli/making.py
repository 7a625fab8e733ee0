"""The commands that make containers and run them: create, start, run."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

from swarmd.model.errors import Invalid, NotFound, SwarmError
from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import oci, oci_state
from swarmd.node.runtime.core.oci_state import Record
from swarmd.node.runtime.ocicli import hooks, launch, waiting
from swarmd.node.runtime.ocicli.console import OwnTerminal
from swarmd.node.runtime.ocicli.context import Context
from swarmd.node.runtime.ocicli.ending import remove
from swarmd.node.runtime.ocicli.grammar import Words

_FORWARDED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH")


def create(context: Context, words: Words) -> int:
    os.close(launch.create(context, wanted(words)).pidfd)
    return 0


def start(context: Context, words: Words) -> int:
    (container_id,) = words.operands
    with context.store.locked(container_id):
        _start(context, context.store.load(container_id))
    return 0


def run(context: Context, words: Words) -> int:
    """Waits for the end unless told to detach; answers the program's exit code then."""
    asked = wanted(words)
    detach = words.has("detach")
    made = launch.create(context, asked, keep_terminal=not detach)
    terminal = OwnTerminal(made.master) if made.master >= 0 else None
    try:
        try:
            with context.store.locked(asked.id):
                _start(context, made.record)
        except BaseException:
            remove(context, made.record)
            raise
        if detach:
            return 0
        code = wait(made.pidfd, terminal)
    finally:
        if terminal is not None:
            terminal.close()
        os.close(made.pidfd)
    if not words.has("keep"):
        with contextlib.suppress(NotFound), context.store.locked(asked.id):
            remove(context, made.record)
    return code


def wanted(words: Words) -> launch.Wanted:
    """What the options of ``create`` and ``run`` say."""
    bundle = os.path.abspath(words.text("bundle", "."))
    if words.has("no-pivot"):
        raise Invalid("--no-pivot: a container's root is always turned; start from a real root file system")
    preserved = words.number("preserve-fds") or 0
    with contextlib.suppress(ValueError):
        preserved += int(os.environ.get("LISTEN_FDS", "0"))
    return launch.Wanted(
        id=words.operands[0],
        bundle=bundle,
        config=os.path.abspath(words.text("config") or f"{bundle}/config.json"),
        pid_file=os.path.abspath(words.text("pid-file")) if words.text("pid-file") else "",
        console_socket=words.text("console-socket"),
        preserved=preserved,
        keyring=not words.has("no-new-keyring"),
    )


def _start(context: Context, record: Record) -> None:
    waiting.start(context, record)
    spec = oci.decode(context.store.config(record.id))
    if spec.hooks is None or not spec.hooks.poststart:
        return
    try:
        hooks.run("poststart", spec.hooks.poststart, oci_state.hook_state(record, "running"))
    except SwarmError as error:
        context.report.warning(str(error))


def wait(pidfd: int, terminal: OwnTerminal | None = None) -> int:
    """The exit code of our child; signals we get meanwhile go to it."""

    def forward(number: int, _frame: Any) -> None:
        with contextlib.suppress(OSError):
            kernel.pidfd_send_signal(pidfd, number)

    for name in _FORWARDED:
        if terminal is None or name != "SIGWINCH":
            signal.signal(getattr(signal, name), forward)
    if terminal is not None:
        terminal.copy(pidfd)
    end = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if end is None:  # only with WNOHANG
        return 0
    return end.si_status if end.si_code == os.CLD_EXITED else 128 + end.si_status
