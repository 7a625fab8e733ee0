"""Under which key the outcome of an operation is remembered.  Pure.

A key is a digest of all that the outcome depends on: the operation, the layers it works on, what it reads.
Values of secrets are no part of it, nor is the image's configuration: an instruction that only changes that
changes no key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from swarmd.image.build.core.graph import Copy, MakeDirectory, Operation, Run

_VERSION = "swarmd build 1"


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation reads: ``parent``, the chain it works on; what each of its sources holds, in order.

    ``clamp``: the newest time that files may have, empty for any; ``platform`` as linux/amd64.
    """

    parent: str
    sources: tuple[str, ...] = ()
    clamp: str = ""
    platform: str = ""


def chain_id(diff_ids: Sequence[str]) -> str:
    """The identity of layers on top of each other, bottom first; empty for none."""
    chain = ""
    for diff_id in diff_ids:
        both = f"{chain} {diff_id}"
        chain = f"sha256:{hashlib.sha256(both.encode()).hexdigest()}" if chain else diff_id
    return chain


def key(operation: Operation, inputs: Inputs) -> str:
    """64 hexadecimal digits."""
    words = (_VERSION, type(operation).__name__, _essence(operation), inputs)
    return hashlib.sha256(msgspec.json.encode(words, order="deterministic")).hexdigest()


def _essence(operation: Operation) -> object:
    """What of it matters: where sources lie does not, what they hold is among the inputs."""
    if isinstance(operation, Run):
        mounts = [
            (mount.kind, mount.target, mount.source, mount.id, mount.readonly, mount.env, mount.size)
            for mount in operation.mounts
        ]
        return [
            operation.args, operation.env, operation.workdir, operation.user, mounts,
            [(file.name, file.data) for file in operation.files], operation.network, operation.security,
        ]  # fmt: skip
    if isinstance(operation, Copy):
        return [
            operation.destination, operation.chown, operation.chmod, operation.link, operation.parents,
            operation.add, operation.unpack,
        ]  # fmt: skip
    if isinstance(operation, MakeDirectory):
        return [operation.path, operation.user]
    raise TypeError(operation)
