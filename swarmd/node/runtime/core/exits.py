"""From what the kernel says about an end to what Docker's users know: exit codes and their sentences."""

from __future__ import annotations

import errno
from typing import ClassVar

from swarmd.model.errors import Invalid

LOST = 255
NOT_STARTED = 128
CANNOT = 126


class StartFailed(Invalid):
    """The program could not be executed; ``exit_code`` is 126, 127 or 128."""

    kind: ClassVar[str] = "invalid"

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def exit_code(wait_status: int) -> int:
    """0–255 of an exit, 128+N of signal N."""
    signal = wait_status & 0x7F
    return 128 + signal if signal else wait_status >> 8 & 0xFF


def outcome(wait_status: int | None, *, started: bool) -> tuple[int, str]:
    """The exit code and error of a container; ``wait_status`` None if nobody saw its end.

    One that never ran its program cannot have succeeded, even if the waiting child left with 0.
    """
    if wait_status is None:
        return LOST, "the end of this container was not seen: the node or its container spawner restarted"
    if not started:
        return exit_code(wait_status) or NOT_STARTED, "the container ended before its program was started"
    return exit_code(wait_status), ""


def exec_failure(number: int, text: str) -> StartFailed:
    """The error of an exec that failed with errno ``number``; ``text`` names the program."""
    if number == errno.ENOENT or number == errno.ENOTDIR:
        code = 127
    elif number in (errno.EACCES, errno.EISDIR, errno.ENOEXEC, errno.EPERM, errno.ELOOP):
        code = CANNOT
    else:
        code = NOT_STARTED
    return StartFailed(text, code)
