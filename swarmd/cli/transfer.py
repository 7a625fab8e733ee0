"""Transfers of images as ``docker pull`` and ``docker push`` show them: lines, or bars on a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from swarmd.cli.progress import Redraw
from swarmd.cli.units import format_decimal

if TYPE_CHECKING:
    from swarmd.rpc.v1 import registry_pb2

_WIDE = 110


def show(messages: Iterable[registry_pb2.TransferProgress], out: TextIO | None = None) -> None:
    """Print them as they come; ``out``: standard output unless it is said."""
    file = out or sys.stdout
    screen = Screen(file)
    for message in messages:
        screen.show(message)


class Screen:
    """One output.  Bytes that arrive are only shown on a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._redraw = Redraw() if out.isatty() else None

    def show(self, message: registry_pb2.TransferProgress) -> None:
        """One message."""
        text = f"{message.item}: {message.state}" if message.item else message.state
        if self._redraw is None:
            if not message.total:
                self._out.write(f"{text}\n")
        elif message.item:
            columns = shutil.get_terminal_size().columns
            self._out.write(self._redraw.draw(message.item, f"{text} {bar(message, columns)}".rstrip()))
        else:
            self._redraw = Redraw()
            self._out.write(f"{text}\n")
        self._out.flush()


def bar(message: registry_pb2.TransferProgress, columns: int) -> str:
    """``[====>   ]  1.5MB/3MB``; only the numbers where there is little room."""
    if not message.total:
        return ""
    current = min(message.current, message.total)
    numbers = f"{format_decimal(current):>8}/{format_decimal(message.total)}"
    if columns <= _WIDE:
        return numbers
    full = 50 * current // message.total
    return f"[{'=' * full}>{' ' * (50 - full)}] {numbers}"
