"""HTTP/2 over a daemon's unix socket, for programs that are to start fast: blocking, one call at a time.

    requests ──► open · send · finish ──►┐                 ┌──► Answer: messages, then trailers
                                         ├─ h2 ─ socket ───┤
    a second thread may send ───────────►┘                 └──► windows, pings: answered here

Whoever reads keeps the connection going; a thread that sends a stream waits for what the reader is told.
"""

from __future__ import annotations

import _socket as socket  # the rest of it makes enumerations of constants, which takes its time
import contextlib
import threading
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from swarmd.rpc import wakeup

Headers = list[tuple[str, str]]

_READ = 128 << 10
_WINDOW = 4 << 20
"""Bytes of answers on their way to one who does not take them: a slow reader slows the daemon down."""
_FRAME = 64 << 10
_TOGETHER = 64 << 10
_FRAME_HEAD, _GOAWAY = 9, 7
_FIRST_WINDOW = 65_535  # of a connection, by the protocol
_SETTINGS: dict[SettingCodes | int, int] = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
    SettingCodes.MAX_FRAME_SIZE: _FRAME,
    SettingCodes.MAX_HEADER_LIST_SIZE: 64 << 10,
}


class Broken(Exception):
    """The other side hung up, or does not speak HTTP/2."""


class Wire:
    """One connection.  ``data``: what came of the answer and was not taken; ``told``: headers and trailers.

    Raises OSError when nobody listens at ``path``.
    """

    def __init__(self, path: str, seconds: float | None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.limit(seconds)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._http = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._changed = threading.Condition()
        self._stream = 0
        self._is_broken = False
        self._farewell = Farewell()
        self.data = bytearray()
        self.told: dict[str, str] = {}
        self.is_over = True
        self._http.initiate_connection()
        self._http.update_settings(_SETTINGS)
        self._http.max_inbound_frame_size = _FRAME  # gRPC uses it before it says that it may
        self._http.increment_flow_control_window(_WINDOW - _FIRST_WINDOW)

    def limit(self, seconds: float | None) -> None:
        """How long one read or write may take; None: as long as it takes.  Raises TimeoutError from then."""
        if seconds is not None and seconds <= 0:
            raise TimeoutError
        self._socket.settimeout(seconds)

    def open(self, headers: Headers) -> None:
        """Begin a call.  Goes out with its first message.  Raises Broken."""
        with self._changed:
            if self._is_broken or self._farewell.was_said:
                raise Broken("it hung up")
            self._stream = self._http.get_next_available_stream_id()
            self.data.clear()
            self.told = {}
            self.is_over = False
            self._http.send_headers(self._stream, headers)

    def send(self, data: bytes, *, last: bool, from_reader: bool) -> bool:
        """A piece of what is asked; false when nobody wants it any more.  Raises Broken, OSError.

        ``from_reader``: whoever calls also reads, so there is no other who could.
        """
        rest = memoryview(data)
        while True:
            with self._changed:
                if self.is_over or self._is_broken:
                    return False
                rest = self._put(rest, last=last)
                if not rest:
                    return True
                if not from_reader:
                    self._changed.wait()
            if from_reader:
                self.read()

    def read(self) -> None:
        """Wait until something came, and take it in.  Raises Broken, OSError."""
        try:
            limit, number = self._socket.gettimeout(), self._socket.fileno()
            if limit != 0 and number >= 0:
                wakeup.wait(number, limit)
            data = self._socket.recv(_READ)
        except ConnectionError:
            data = b""
        with self._changed:
            try:
                if not data:
                    raise Broken("it hung up")
                for event in self._http.receive_data(self._farewell.without(data)):
                    self._see(event)
                self._flush()
                if self._stream > self._farewell.last and not self.is_over:
                    raise Broken("it said goodbye")
            except (ProtocolError, ConnectionError) as error:
                raise self._broken(str(error) or type(error).__name__) from error
            except Broken:
                self._is_broken = True
                raise
            finally:
                self._changed.notify_all()

    def take(self, size: int) -> bytes:
        """The first ``size`` bytes of ``data``."""
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken

    def is_free(self) -> bool:
        """Whether another call may begin: the last one ended on both sides, and nobody hung up."""
        if not self.is_over or self._is_broken or self._http.open_outbound_streams:
            return False
        try:
            self._socket.settimeout(0)
            while True:
                self.read()
        except BlockingIOError:
            return not self._is_broken and not self._farewell.was_said
        except (Broken, OSError):
            return False

    def interrupt(self) -> None:
        """From any thread: whoever waits here is told that the connection is gone."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        self.interrupt()
        with self._changed:
            self._is_broken = True
            self._changed.notify_all()
        self._socket.close()

    def _put(self, rest: memoryview, *, last: bool) -> memoryview:
        """As much as the other side has room for; answers what is left."""
        waiting = 0
        while True:
            room = self._http.local_flow_control_window(self._stream)
            size = min(len(rest), room, self._http.max_outbound_frame_size)
            ends = last and size == len(rest)
            if size or ends:
                self._http.send_data(self._stream, bytes(rest[:size]), end_stream=ends)
            rest = rest[size:]
            waiting += size
            if not rest or not size or waiting >= _TOGETHER:
                self._flush()
                waiting = 0
            if not rest or not size:
                return rest

    def _flush(self) -> None:
        if data := self._http.data_to_send():
            self._socket.sendall(data)

    def _broken(self, text: str) -> Broken:
        self._is_broken = True
        return Broken(text)

    def _see(self, event: Event) -> None:
        if getattr(event, "stream_id", self._stream) != self._stream:
            return
        if isinstance(event, DataReceived):
            self.data += event.data
            self._http.acknowledge_received_data(event.flow_controlled_length, self._stream)
        elif isinstance(event, (ResponseReceived, TrailersReceived)):
            self.told.update(cast("Headers", event.headers))
        elif isinstance(event, StreamReset):
            self.told.setdefault("grpc-message", f"the call was reset ({event.error_code})")
            self.is_over = True
        elif isinstance(event, StreamEnded):
            self.is_over = True


class Farewell:
    """Keeps GOAWAY from h2, which would take nothing more then: a daemon that stops answers what it was asked
    before.  ``last``: the newest stream that it answers.
    """

    def __init__(self) -> None:
        self._rest = b""
        self.was_said = False
        self.last = (1 << 31) - 1

    def without(self, data: bytes) -> bytes:
        """The frames that are whole now, but for that one."""
        data = self._rest + data
        kept: list[bytes] = []
        start = 0
        while len(data) - start >= _FRAME_HEAD:
            end = start + _FRAME_HEAD + int.from_bytes(data[start : start + 3], "big")
            if end > len(data):
                break
            if data[start + 3] == _GOAWAY:
                self.was_said = True
                said = data[start + _FRAME_HEAD : start + _FRAME_HEAD + 4]
                self.last = min(self.last, int.from_bytes(said, "big") & 0x7FFFFFFF)
            else:
                kept.append(data[start:end])
            start = end
        self._rest = data[start:]
        return b"".join(kept)
