"""What somebody who is attached has been given, and what of the log is new to them.

Live output comes as it is written; the log has it in whole lines, a little later.  Both are the same bytes in
each stream, so a count of those given says where in the log to go on.
"""

from __future__ import annotations

import msgspec

from swarmd.node.runtime.core.logrecord import STDERR, STDOUT


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Where a pump stood: the log file and its size, and the beginnings of lines it held back."""

    number: int
    size: int
    out: bytes
    err: bytes

    def rest(self, stream: int) -> bytes:
        return self.out if stream == STDOUT else self.err


START = Mark(0, 0, b"", b"")


class Following:
    """Begins at the mark of a pump, with nothing given since."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self._given = {stream: len(mark.rest(stream)) for stream in (STDOUT, STDERR)}

    def live(self, stream: int, data: bytes) -> None:
        """It was given."""
        self._given[stream] += len(data)

    def missed(self) -> Missed:
        """For reading the log from ``mark`` on.

        What a pump that died held back is still in its pipe, and comes with what the next one holds back.
        """
        return Missed(dict(self._given))


class Missed:
    """Leaves out the first bytes of each stream: they have been given."""

    def __init__(self, skip: dict[int, int]) -> None:
        self._skip = skip

    def of(self, stream: int, data: bytes) -> bytes:
        skipped = min(self._skip.get(stream, 0), len(data))
        if skipped:
            self._skip[stream] -= skipped
        return data[skipped:]
