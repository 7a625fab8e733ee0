"""The commands that only look."""

from __future__ import annotations

import os
import sys

from swarmd.model.errors import Conflict, Invalid
from swarmd.node.runtime.core import mountopts, oci_documents, oci_state
from swarmd.node.runtime.ocicli import groups
from swarmd.node.runtime.ocicli.context import Context
from swarmd.node.runtime.ocicli.grammar import Words


def state(context: Context, words: Words) -> int:
    record = context.store.load(words.operands[0])
    _print(oci_state.state(record, context.status(record)))
    return 0


def list_(context: Context, words: Words) -> int:
    chosen = _format(words)
    if words.has("quiet"):
        _print("\n".join(context.store.ids()))
    elif chosen == "json":
        _print(oci_state.listing(context.rows()))
    else:
        _print(oci_state.table(context.rows()))
    return 0


def ps(context: Context, words: Words) -> int:
    chosen = _format(words)
    record = context.store.load(words.operands[0])
    context.require(record, "created", "running", "paused", doing="list the processes of")
    pids = groups.processes(context.groups(record)) or [record.pid]
    _print(oci_state.pretty(pids) if chosen == "json" else "\n".join(["PID", *map(str, pids)]))
    return 0


def _format(words: Words) -> str:
    chosen = words.text("format", "table")
    if chosen not in ("table", "json"):
        raise Invalid(f"--format {chosen!r}: use table or json")
    return chosen


def features(_context: Context, _words: Words) -> int:
    _print(oci_state.pretty(oci_documents.features(mountopts.names())))
    return 0


def spec(_context: Context, words: Words) -> int:
    path = os.path.join(words.text("bundle", "."), words.text("file", "config.json"))
    document = oci_documents.example(rootless=words.has("rootless"), uid=os.getuid(), gid=os.getgid())
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(oci_state.pretty(document) + "\n")
    except FileExistsError:
        raise Conflict(f"{path} exists already; remove it to have a new one") from None
    except OSError as error:
        raise Invalid(f"cannot write {path}: {error.strerror}") from error
    return 0


def _print(text: str) -> None:
    if text:
        sys.stdout.write(text + "\n")
