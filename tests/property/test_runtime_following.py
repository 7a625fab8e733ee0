"""Who follows a container's output is given each byte of each stream once, whatever happens in between."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.node.runtime.core.following import START, Following, Mark
from swarmd.node.runtime.core.logrecord import STDERR, STDOUT

STREAMS = (STDOUT, STDERR)
LONGEST = 16


@dataclass
class Pump:
    """A pump as far as a follower sees it: the log in whole lines, and the beginnings of lines it holds back.

    One that dies loses neither: what it held back is still in the pipe.
    """

    log: list[tuple[int, bytes]] = field(default_factory=list)
    rests: dict[int, bytes] = field(default_factory=lambda: dict.fromkeys(STREAMS, b""))

    def write(self, stream: int, data: bytes) -> None:
        data = self.rests[stream] + data
        end = data.rfind(b"\n") + 1
        if len(data) - end >= LONGEST:
            end = len(data)
        if end:
            self.log.append((stream, data[:end]))
        self.rests[stream] = data[end:]

    def mark(self) -> Mark:
        return Mark(1, len(self.log), self.rests[STDOUT], self.rests[STDERR])


class Reader:
    """A follower that is connected, or lags, or has lost its pump."""

    def __init__(self, pump: Pump, *, logs: bool) -> None:
        self.pump = pump
        self.got = dict.fromkeys(STREAMS, b"")
        self.following = Following(START if logs else pump.mark())
        self.connected = not logs
        if logs:
            self.catch_up()

    def live(self, stream: int, data: bytes) -> None:
        if self.connected:
            self.following.live(stream, data)
            self.got[stream] += data

    def catch_up(self) -> None:
        mark = self.pump.mark()
        missed = self.following.missed()
        for stream, data in self.pump.log[self.following.mark.size : mark.size]:
            self.got[stream] += missed.of(stream, data)
        for stream in STREAMS:
            self.got[stream] += missed.of(stream, mark.rest(stream))
        self.following = Following(mark)
        self.connected = True


PIECES = [b"a", b"bb\n", b"\n", b"line\nand more", b"x" * (LONGEST + 3)]
texts = st.lists(st.sampled_from(PIECES), max_size=3).map(b"".join)
writes = st.tuples(st.just("write"), st.sampled_from(STREAMS), texts)
others = st.sampled_from([("lag",), ("catch up",)])
moments = st.lists(writes | others, max_size=12)


@settings(max_examples=400, deadline=None)
@given(before=st.lists(writes, max_size=6), after=moments, logs=st.booleans())
def test_nothing_is_missing_and_nothing_twice(
    before: list[tuple[str, int, bytes]], after: list[tuple[object, ...]], *, logs: bool
) -> None:
    pump = Pump()
    for _, stream, data in before:
        pump.write(stream, data)
    written = dict.fromkeys(STREAMS, b"")
    if logs:
        for _, stream, data in before:
            written[stream] += data
    reader = Reader(pump, logs=logs)
    for moment in after:
        match moment:
            case ("write", int(stream), bytes(data)):
                pump.write(stream, data)
                reader.live(stream, data)
                written[stream] += data
            case ("lag",):
                reader.connected = False
            case ("catch up",) if not reader.connected:
                reader.catch_up()
            case _:
                pass
    if not reader.connected:
        reader.catch_up()
    assert reader.got == written
