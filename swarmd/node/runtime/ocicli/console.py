"""The terminal of a container: handed to whoever listens on a console socket, or joined to our own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import tty

from swarmd.model.errors import Unavailable

_CHUNK = 32 * 1024


def hand_over(path: str, master: int) -> None:
    """Send the master to a console socket, with the name the other side expects."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(path)
            socket.send_fds(line, [b"/dev/ptmx"], [master])
    except OSError as error:
        raise Unavailable(f"cannot reach the console socket {path}: {error.strerror}") from error
    finally:
        os.close(master)


class OwnTerminal:
    """Copies between our standard streams and a master until the container's end; puts ours back then."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._before = None
        if os.isatty(0):
            self._before = termios.tcgetattr(0)
            tty.setraw(0)
            self.resize()
            signal.signal(signal.SIGWINCH, lambda *_: self.resize())

    def resize(self) -> None:
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def copy(self, pidfd: int) -> None:
        """Returns when the process of ``pidfd`` has ended and all it wrote was copied."""
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        poll.register(0, select.POLLIN)
        ended = False
        while True:
            ready = dict(poll.poll(0 if ended else None))
            if self._master in ready:
                if not _move(self._master, 1):
                    return
            elif ended:
                return
            if 0 in ready and not _move(0, self._master):
                poll.unregister(0)
            if pidfd in ready:
                ended = True
                poll.unregister(pidfd)

    def close(self) -> None:
        os.close(self._master)
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)


def _move(source: int, target: int) -> bool:
    """One chunk; False at the end of ``source``, which a terminal tells as an error."""
    try:
        data = os.read(source, _CHUNK)
        while data:
            data = data[os.write(target, data) :]
            if not data:
                return True
    except OSError:
        pass
    return False
