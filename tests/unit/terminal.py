"""A terminal with a command on it, for tests of what the command does to it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

SWARMCTL = str(Path(sys.executable).parent / "swarmctl")
PATIENCE = 60.0


class Screen:
    """A terminal of 33 × 101 with a command on it."""

    def __init__(self, *words: str, env: Mapping[str, str] | None = None) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(33, 101, signalled=False)
        self.before = termios.tcgetattr(self.slave)
        self.text = b""
        # Whoever runs the tests in the background may have them ignore the signal, which children inherit.
        previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.process = subprocess.Popen(
            [SWARMCTL, *words],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env=env,
        )
        signal.signal(signal.SIGINT, previous)

    def resize(self, rows: int, columns: int, *, signalled: bool = True) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if signalled:  # it is no controlling terminal here, so the kernel tells nobody
            self.process.send_signal(signal.SIGWINCH)

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} never came: {self.text!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 4096)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ECHO

    def ended(self) -> int:
        """The exit code; the terminal is as it was."""
        code = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self.slave) == self.before
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)
