"""The command ``swarmd-runtime``: reads its words, runs one command, says what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from swarmd.model.errors import Invalid, SwarmError
from swarmd.node.runtime.core.oci_state import VERSION
from swarmd.node.runtime.ocicli import grammar
from swarmd.node.runtime.ocicli.context import Context
from swarmd.node.runtime.ocicli.groups import MANAGERS
from swarmd.node.runtime.ocicli.report import Reporter
from swarmd.node.runtime.ocicli.store import Store

DEFAULT_ROOT = "/run/swarmd-runtime"
_FAILED = 1
# Where a command is; the module is loaded when it is asked for.
_HOMES = {
    "create": "making", "delete": "ending", "exec": "executing:exec_", "features": "looking",
    "kill": "ending", "list": "looking:list_", "pause": "changing", "ps": "looking", "resume": "changing",
    "run": "making", "spec": "looking", "start": "making", "state": "looking", "update": "changing",
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The exit code: that of the program for ``run`` and ``exec``, else 0, or 1 with the reason told."""
    report = Reporter()
    try:
        options, command, words = grammar.parse(sys.argv[1:] if arguments is None else arguments)
        if options.has("version"):
            sys.stdout.write(_version())
            return 0
        if command is None or options.has("help") or words.has("help"):
            sys.stdout.write(grammar.usage(command))
            return 0 if options.has("help") or words.has("help") else _FAILED
        report = Reporter(options.text("log"), options.text("log-format", "text"), debug=options.has("debug"))
        return _home(command.name)(_context(options, report), words)
    except SwarmError as error:
        report.error(str(error))
    except OSError as error:
        report.error(f"{error.filename or 'the kernel'}: {error.strerror}")
    except KeyboardInterrupt:
        report.error("interrupted")
    return _FAILED


def _version() -> str:
    # Not from importlib.metadata: reading it would take longer than a state command.
    return f"swarmd-runtime version 0.1.0\nspec: {VERSION}\n+SYSTEMD-PATHS +CAP +SECCOMP +EBPF\n"


def _context(options: grammar.Words, report: Reporter) -> Context:
    manager = "systemd" if options.has("systemd-cgroup") else options.text("cgroup-manager", "cgroupfs")
    if manager not in MANAGERS:
        raise Invalid(f"--cgroup-manager {manager!r}: use one of {', '.join(MANAGERS)}")
    return Context(Store(options.text("root", DEFAULT_ROOT)), report, manager)


def _home(name: str) -> Callable[[Context, grammar.Words], int]:
    module, _, function = _HOMES[name].partition(":")
    loaded = import_module(f"swarmd.node.runtime.ocicli.{module}")
    command: Callable[[Context, grammar.Words], int] = getattr(loaded, function or name)
    return command
