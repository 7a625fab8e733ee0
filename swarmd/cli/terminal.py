"""The user's terminal: raw while a session has it, as before on every way out."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Any

_ENDING = (signal.SIGTERM, signal.SIGHUP)


def is_terminal(file: Any) -> bool:
    """Whether a user sits there."""
    try:
        return os.isatty(file.fileno())
    except (OSError, ValueError, AttributeError):
        return False


def size(fallback: tuple[int, int] = (24, 80)) -> tuple[int, int]:
    """(rows, columns) of the terminal on standard output, input or error."""
    for file in (sys.stdout, sys.stdin, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found = os.get_terminal_size(file.fileno())
            if found.lines and found.columns:
                return found.lines, found.columns
    return fallback


class Raw:
    """Makes a terminal raw, once; :meth:`restore` is always safe to call."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None

    def begin(self) -> None:
        """From now on every key goes to the program."""
        if self._before is None:
            self._before = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSANOW)

    def restore(self) -> None:
        """As it was before."""
        if self._before is not None:
            with contextlib.suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._before = None


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block by an exception, so that what follows it is done."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    with handling(dict.fromkeys(_ENDING, end)):
        yield


@contextlib.contextmanager
def handling(handlers: dict[signal.Signals, Callable[[int, Any], Any]]) -> Iterator[None]:
    """Signal handlers for the length of a block."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
