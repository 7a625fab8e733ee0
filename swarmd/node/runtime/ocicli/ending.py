"""The commands that end containers: kill, delete."""

from __future__ import annotations

import contextlib
import os
import re

import msgspec

from swarmd.model.errors import Invalid, NotFound, Refused, SwarmError
from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import linux, oci_state
from swarmd.node.runtime.core.oci_state import Record, Status
from swarmd.node.runtime.core.signals import signal_number
from swarmd.node.runtime.ocicli import groups
from swarmd.node.runtime.ocicli.context import Context
from swarmd.node.runtime.ocicli.grammar import Words


def kill(context: Context, words: Words) -> int:
    number = signal_number(words.operands[1] if len(words.operands) > 1 else "SIGTERM")
    for container_id in _named(context, words):
        with context.store.locked(container_id):
            record = context.store.load(container_id)
            if words.has("all"):
                groups.kill(context.groups(record), number)
                continue
            pidfd = context.open_process(record)
            try:
                kernel.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)
    return 0


def _named(context: Context, words: Words) -> list[str]:
    """The containers meant: with ``--regex`` all that match."""
    if not words.has("regex"):
        return [words.operands[0]]
    try:
        pattern = re.compile(words.operands[0])
    except re.error as error:
        raise Invalid(f"--regex {words.operands[0]!r}: {error}") from None
    return [name for name in context.store.ids() if pattern.search(name)]


def delete(context: Context, words: Words) -> int:
    force = words.has("force")
    for container_id in _named(context, words):
        try:
            with context.store.locked(container_id):
                _delete(context, container_id, force=force)
        except NotFound:
            if not force:
                raise
    return 0


def _delete(context: Context, container_id: str, *, force: bool) -> None:
    try:
        record = context.store.load(container_id)
    except NotFound:
        raise
    except SwarmError:
        if not force:
            raise
        context.store.remove(container_id)
        return
    now: Status = context.status(record) if record.pid else "stopped"
    if now not in ("created", "stopped") and not force:
        raise Refused(f"the container `{container_id}` is not in `created` or `stopped` state: it is {now}")
    remove(context, record)


def remove(context: Context, record: Record) -> None:
    """Whatever it does now: its processes, its cgroups, then the hooks of its end, then its state."""
    with contextlib.suppress(Refused, OSError):
        pidfd = context.open_process(record)
        kernel.pidfd_send_signal(pidfd, linux.SIGKILL)
        os.close(pidfd)
    where = context.groups(record)
    if groups.is_frozen(where):
        groups.kill(where)
        groups.thaw(where)
    groups.remove(where, record.made)
    _await_end(context, record)
    if record.has_poststop:
        _run_last_hooks(context, record)
    context.store.remove(record.id)


def _run_last_hooks(context: Context, record: Record) -> None:
    """A failure hinders nothing."""
    # most containers have none, and these would double the time that a deletion takes
    from swarmd.node.runtime.core import oci
    from swarmd.node.runtime.ocicli import hooks

    try:
        wanted = oci.decode(context.store.config(record.id)).hooks or oci.Hooks()
        state = oci_state.hook_state(msgspec.structs.replace(record, pid=0), "stopped")
        hooks.run("poststop", wanted.poststop, state)
    except SwarmError as error:
        context.report.warning(str(error))


def _await_end(context: Context, record: Record) -> None:
    """Without cgroups nobody has waited for it yet."""
    with contextlib.suppress(Refused):
        pidfd = context.open_process(record)
        groups.wait_readable(pidfd)
        os.close(pidfd)
