"""The commands that change a container that runs: pause, resume, update."""

from __future__ import annotations

import sys

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import oci
from swarmd.node.runtime.core.oci_limits import resources_of
from swarmd.node.runtime.core.oci_resources import Resources
from swarmd.node.runtime.ocicli import groups, limiting
from swarmd.node.runtime.ocicli.context import Context
from swarmd.node.runtime.ocicli.grammar import LIMITS, Words


def pause(context: Context, words: Words) -> int:
    (container_id,) = words.operands
    with context.store.locked(container_id):
        record = context.store.load(container_id)
        if context.require(record, "running", "created", "paused", doing="pause") != "paused":
            groups.freeze(context.groups(record))
    return 0


def resume(context: Context, words: Words) -> int:
    (container_id,) = words.operands
    with context.store.locked(container_id):
        record = context.store.load(container_id)
        context.require(record, "running", "created", "paused", doing="resume")
        groups.thaw(context.groups(record))
    return 0


def update(context: Context, words: Words) -> int:
    (container_id,) = words.operands
    wanted = _resources(words)
    with context.store.locked(container_id):
        record = context.store.load(container_id)
        context.require(record, "running", "created", "paused", doing="update")
        limiting.change(context.groups(record), wanted)
    return 0


def _resources(words: Words) -> Resources:
    """From a file or standard input, or from the options of the single limits."""
    source = words.text("resources")
    if not source:
        return resources_of({name: words.text(name) for name in LIMITS if words.has(name)})
    try:
        if source == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(source, "rb") as file:
                data = file.read()
    except OSError as error:
        raise Invalid(f"cannot read {source}: {error.strerror}") from error
    return oci.read(data, Resources, "resources")
