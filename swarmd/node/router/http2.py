"""The client's end of HTTP/2, and the one door to the library that knows its frames.

Streams are exchanges of their own; what they send and take is held back by HTTP/2's windows, the connection
as a whole by the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from swarmd.node.router.client import Launch, Serve
from swarmd.node.router.core.request import Bad, Line, http2
from swarmd.node.router.http1 import HEAD_SECONDS, IDLE_SECONDS, PIECE, STALL_SECONDS
from swarmd.node.router.stream import Stream
from swarmd.node.router.talk import NEVER, Lost, keep_alive

_STREAMS, _WINDOW, _LIST = 128, 256 << 10, 64 << 10
_FEW = 16
"""Events in a piece that is mostly somebody's body."""
_MOST_RESETS = 200
"""Streams that a client may open and give up, beyond those it lets be answered (CVE-2023-44487)."""


class Http2(asyncio.Protocol):
    """One client; see :class:`~swarmd.node.router.http1.Http1` for what it is given."""

    def __init__(
        self,
        line: Line,
        serve: Serve,
        launch: Launch,
        now: Callable[[], float],
        gone: Callable[[Http2], None],
    ) -> None:
        self._line = line
        self._serve = serve
        self._launch = launch
        self._now = now
        self._gone = gone
        self._streams: dict[int, Stream] = {}
        self._resets = 0
        self._full = False
        self._behind = b""
        """What came with the rest and has not been looked at."""
        self.transport: asyncio.Transport | None = None
        self.deadline = now() + HEAD_SECONDS
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None)
        )

    # -- what the loop calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        keep_alive(transport)
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: _STREAMS,
                codes.INITIAL_WINDOW_SIZE: _WINDOW,
                codes.MAX_HEADER_LIST_SIZE: _LIST,
                codes.MAX_FRAME_SIZE: 16384,
                codes.ENABLE_PUSH: 0,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(4 * _WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        waits = bool(self._behind)
        self._behind += data
        if not waits:
            self._look()

    def _look(self) -> None:
        """Take apart what has come in, piece by piece.  What is behind one that asks for a lot waits until
        others have had their turn; who takes no answers can ask for no more."""
        few = True
        while self._behind and few and not self._full:
            data, self._behind = self._behind[:PIECE], self._behind[PIECE:]
            few = self._receive(data) <= _FEW
        if not few and self._behind:
            asyncio.get_running_loop().call_soon(self._look)
        self._hold()

    def _hold(self) -> None:
        """Read nothing more from a client that takes no answers, or sends faster than it is looked at."""
        if self.transport is None or self.transport.is_closing():
            self._behind = b""
        elif self._full or self._behind:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _receive(self, data: bytes) -> int:
        """Answers how much there was to do."""
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._flush()
            self.close()
            self._behind = b""
            return 0
        for event in events:
            self._take(event)
        self._flush()
        return len(events)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._behind = b""  # nobody waits for answers to what is in it
        for stream in self._streams.values():
            stream.fail(Lost())
            if stream.task is not None:
                stream.task.cancel()
        self._streams.clear()
        self._gone(self)

    def pause_writing(self) -> None:
        self._full = True
        self.deadline = self._now() + STALL_SECONDS
        self._hold()

    def resume_writing(self) -> None:
        self._full = False
        self._rest()
        self._look()
        self._wake_all()

    # -- for the router --------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """No request is under way."""
        return not self._streams

    def finish(self) -> None:
        """Take no new requests, and close when those under way have ended."""
        if self.transport is not None:
            try:
                self._h2.close_connection(last_stream_id=self._h2.highest_inbound_stream_id)
            except h2.exceptions.ProtocolError:
                self.close()
            self._flush()
            if not self._streams:
                self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = NEVER
        if self._full:
            self.abort()
        else:
            self.finish()

    # -- for streams -----------------------------------------------------------------------------

    def taken(self, number: int, size: int) -> None:
        """The client may send as much again."""
        self._do(lambda: self._h2.acknowledge_received_data(size, number))

    def head(self, number: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Raises Lost."""
        self._must(lambda: self._h2.send_headers(number, fields))

    def room(self, number: int) -> int:
        """Bytes that can be sent now.  Raises Lost."""
        if self._full:
            return 0
        try:
            window = self._h2.local_flow_control_window(number)
        except (h2.exceptions.ProtocolError, KeyError) as error:
            raise Lost from error
        return max(0, min(window, self._h2.max_outbound_frame_size))

    def body(self, number: int, data: bytes) -> None:
        """Raises Lost."""
        self._must(lambda: self._h2.send_data(number, data))

    def end(self, number: int) -> None:
        """Raises Lost."""
        self._must(lambda: self._h2.end_stream(number))

    def reset(self, number: int) -> None:
        self._do(lambda: self._h2.reset_stream(number, h2.errors.ErrorCodes.INTERNAL_ERROR))

    def _must(self, act: Callable[[], None]) -> None:
        if self.transport is None:
            raise Lost
        try:
            act()
        except (h2.exceptions.ProtocolError, KeyError) as error:
            raise Lost from error
        self._flush()

    def _do(self, act: Callable[[], None]) -> None:
        with contextlib.suppress(Lost):  # the stream is gone already
            self._must(act)

    # -- events ----------------------------------------------------------------------------------

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._open(event)
        elif isinstance(event, h2.events.DataReceived):
            self._data(event)
        elif isinstance(event, h2.events.StreamEnded):
            if event.stream_id in self._streams:
                self._streams[event.stream_id].feed_end()
        elif isinstance(event, h2.events.StreamReset):
            self._given_up(event.stream_id or 0)
        elif isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            self._wake_all()
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.close()

    def _open(self, event: h2.events.RequestReceived) -> None:
        number = event.stream_id or 0
        fields = tuple((bytes(name), bytes(value)) for name, value in event.headers or ())
        try:
            request = http2(fields, self._line, ended=event.stream_ended is not None)
        except Bad as error:
            status, text = b"%d" % error.status, f"{error.text}\n".encode()
            self._do(lambda: self._h2.send_headers(number, [(b":status", status)]))
            self._do(lambda: self._h2.send_data(number, text, end_stream=True))
            if event.stream_ended is None:
                self._do(lambda: self._h2.reset_stream(number, h2.errors.ErrorCodes.NO_ERROR))
            return
        stream = self._streams[number] = Stream(self, number, request)
        self.deadline = NEVER
        stream.task = self._launch("router stream", self._run(number, stream))

    async def _run(self, number: int, stream: Stream) -> None:
        try:
            await self._serve(stream)
        finally:
            if self._streams.pop(number, None) is not None:
                if not stream.answered:
                    self.reset(number)
                elif not stream.body_is_here():
                    self._do(lambda: self._h2.reset_stream(number, h2.errors.ErrorCodes.NO_ERROR))
                self._resets = max(0, self._resets - 1)
            self._rest()

    def _data(self, event: h2.events.DataReceived) -> None:
        number, size = event.stream_id or 0, event.flow_controlled_length or 0
        if number in self._streams:
            self._streams[number].feed(event.data or b"", size)
        else:
            self.taken(number, size)

    def _given_up(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        stream.fail(Lost())
        if stream.task is not None:
            stream.task.cancel()
        self._resets += 1
        if self._resets > _MOST_RESETS:
            self._do(lambda: self._h2.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM))
            self.close()

    def _rest(self) -> None:
        self.deadline = NEVER if self._streams else self._now() + IDLE_SECONDS
        if not self._streams and self._h2.state_machine.state is h2.connection.ConnectionState.CLOSED:
            self.close()

    def _wake_all(self) -> None:
        for stream in list(self._streams.values()):
            stream.wake()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)
