"""A session with a program in a container: the terminal here, the messages of the daemon there.

keys ──► second thread: a message for each read, with back-pressure ──► daemon
screen ◄── main thread: one message at a time                       ◄── daemon
SIGWINCH, other signals ──► a pipe that wakes the thread ──► resize, signal
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import IO, Any, NamedTuple

from swarmd.cli import terminal
from swarmd.cli.client import Client, translate
from swarmd.cli.errors import CliError
from swarmd.cli.keys import Escape
from swarmd.rpc.unix_calls import CallFailed
from swarmd.rpc.v1 import containers_pb2 as pb

_CHUNK = 32 << 10
LEFT = "read escape sequence"
_NOT_PASSED_ON = {
    signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGTSTP, signal.SIGTTIN,
    signal.SIGTTOU, signal.SIGCONT, signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS,
    signal.SIGFPE, signal.SIGILL,
}  # fmt: skip


class Manner(NamedTuple):
    """How a session is held.

    ``tty``: the program has a terminal; ``stdin``: what is typed goes to it; ``keys``: leave it;
    ``signals``: signals to this process go to the program instead.
    """

    tty: bool = False
    stdin: bool = False
    keys: bytes = b""
    signals: bool = False


class Talk:
    """One session.  ``first`` is the message it begins with; ``begun`` is done as soon as it stands."""

    def __init__(
        self, first: pb.SessionInput, manner: Manner, begun: Callable[[], object] = lambda: None
    ) -> None:
        self._first = first
        self._manner = manner
        self._begun = begun
        self._waiting: deque[pb.SessionInput] = deque()
        self._awake, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._over = False
        self._left = False
        self._escape = Escape(manner.keys if manner.tty else b"")
        self._raw: terminal.Raw | None = None
        self._call: Future[Any] = Future()

    def hold(self, client: Client, method: str) -> int:
        """Until the program ends, or the user leaves it; answers the exit code.  Raises CliError."""
        call = client.talk(method, self._messages())
        self._call.set_result(call)
        try:
            with terminal.ending_in_order(), terminal.handling(self._handlers()):
                return self._listen(call)
        except CallFailed as error:
            if not self._left:
                raise translate(error, client.host) from error
        finally:
            self._restore()
            self._over = True
            self._wake_up()
            call.cancel()
        sys.stderr.write(f"{LEFT}\n")
        return 0

    def _listen(self, answers: Any) -> int:
        for answer in answers:
            kind = answer.WhichOneof("body")
            if answer.HasField("started"):
                self._started()
            if kind in ("stdout", "stderr"):
                _show(sys.stdout if kind == "stdout" else sys.stderr, getattr(answer, kind))
            elif kind == "end":
                return self._ended(answer.end)
        if self._first.command.detach:
            return 0
        raise CliError("the daemon ended the session without saying how the program ended")

    def _started(self) -> None:
        if self._manner.tty and self._manner.stdin and terminal.is_terminal(sys.stdin):
            self._raw = terminal.Raw(sys.stdin.fileno())
            self._raw.begin()
        if self._manner.tty and not self._first.HasField("command"):  # it has a terminal of another size
            self._resized()
        self._begun()

    def _ended(self, end: pb.SessionEnd) -> int:
        self._restore()
        if end.error:
            sys.stderr.write(f"{end.error}\n")
        return int(end.exit_code)

    def _restore(self) -> None:
        if self._raw is not None:
            self._raw.restore()

    # -- what goes to the program ----------------------------------------------------------------

    def _messages(self) -> Iterator[pb.SessionInput]:
        """Runs in a second thread, which asks for the next message when the last one is sent."""
        yield self._first
        reading = self._manner.stdin
        while not self._over:
            fds = [self._awake, *([sys.stdin.fileno()] if reading else [])]
            ready, _, _ = select.select(fds, [], [])
            if self._awake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._awake, 4096)
                while self._waiting:
                    yield self._waiting.popleft()
                continue
            data = os.read(sys.stdin.fileno(), _CHUNK)
            if not data:
                reading = False
                yield pb.SessionInput(end=True)
                continue
            typed, self._left = self._escape.feed(data)
            if typed:
                yield pb.SessionInput(stdin=typed)
            if self._left:
                self._call.result().cancel()  # what the main thread waits for
                return

    def _say(self, message: pb.SessionInput) -> None:
        self._waiting.append(message)
        self._wake_up()

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"x")

    def _handlers(self) -> dict[signal.Signals, Callable[[int, Any], Any]]:
        found: dict[signal.Signals, Callable[[int, Any], Any]] = {}
        if self._manner.tty:
            found[signal.SIGWINCH] = self._resized
        if self._manner.signals and not self._manner.tty:
            passed_on = signal.valid_signals() - _NOT_PASSED_ON
            found.update({signal.Signals(number): self._signalled for number in passed_on if number < 32})
        return found

    def _resized(self, *_: object) -> None:
        rows, columns = terminal.size()
        self._say(pb.SessionInput(size=pb.TerminalSize(rows=rows, columns=columns)))

    def _signalled(self, number: int, _: object) -> None:
        self._say(pb.SessionInput(signal=signal.Signals(number).name))


def _show(file: IO[str], data: bytes) -> None:
    file.flush()
    file.buffer.write(data)  # type: ignore[attr-defined]
    file.buffer.flush()  # type: ignore[attr-defined]
