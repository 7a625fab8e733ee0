"""What swarmctl says when it cannot do what was asked, and with which exit code."""

from __future__ import annotations

FAILED = 1
BAD_USAGE = 125
INTERRUPTED = 130


class CliError(Exception):
    """A sentence for standard error; the command ends with ``exit_code``."""

    exit_code = FAILED


class Unreachable(CliError):
    """The daemon's socket cannot be reached."""


class DaemonError(CliError):
    """The daemon refused.  ``message`` is its sentence, ``kind`` one of ``model.errors.KINDS``."""

    def __init__(self, message: str, kind: str = "internal") -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.message = message
        self.kind = kind
