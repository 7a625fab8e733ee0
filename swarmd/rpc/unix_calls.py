"""gRPC calls on a daemon's unix socket, without the gRPC library: it takes longer to load than a call takes.

Blocking, for programs that are to start fast; messages and methods are those of the generated modules.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from swarmd.kit.clock import SystemClock
from swarmd.rpc.unix_wire import Broken, Headers, Wire

OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 0, 1, 2, 4, 12, 13, 14
"""Codes of gRPC; the others only come from a daemon."""

Metadata = tuple[tuple[str, str], ...]
_CLOCK = SystemClock()
_HEAD = 5
_MOST = 64 << 20


class CallFailed(Exception):
    """What gRPC says of a call: ``code``, ``details``, and metadata behind it.

    ``refused``: the OSError for which there was no connection.
    """

    def __init__(self, code: int, details: str, trailing: dict[str, str], refused: OSError | None) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailing = trailing
        self.refused = refused


class Host:
    """A daemon at the absolute path of its socket.  A connection is used again after its call has ended."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: Wire | None = None
        self._calls: list[Call] = []

    def call(self, method: MethodDescriptor, request: Any, seconds: float | None, metadata: Metadata) -> Call:
        """Begin a call.  ``request``: a message, or an iterator of them, which another thread goes through.

        Raises CallFailed.
        """
        deadline = None if seconds is None else _CLOCK.monotonic() + seconds
        try:
            wire = self._wire(seconds)
        except OSError as error:
            raise CallFailed(UNAVAILABLE, str(error), {}, error) from error
        call = Call(self, wire, method, deadline)
        self._calls.append(call)
        call.begin(_headers(method, seconds, metadata), request)
        return call

    def ended(self, call: Call, wire: Wire | None) -> None:
        """``call`` is over; ``wire`` may be used again."""
        if call in self._calls:
            self._calls.remove(call)
        if wire is not None:
            if self._idle is not None:
                self._idle.close()
            self._idle = wire

    def close(self) -> None:
        """Hang up; calls that still run are cancelled."""
        for call in list(self._calls):
            call.cancel()
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _wire(self, seconds: float | None) -> Wire:
        wire, self._idle = self._idle, None
        if wire is not None:
            if wire.is_free():
                wire.limit(seconds)
                return wire
            wire.close()
        return Wire(self._path, seconds)


class Call:
    """An answer on its way: iterate over its messages.  Everything raises CallFailed."""

    def __init__(self, host: Host, wire: Wire, method: MethodDescriptor, deadline: float | None) -> None:
        self._host = host
        self._wire = wire
        self._read = GetMessageClass(method.output_type).FromString
        self._deadline = deadline
        self._failure: Exception | None = None
        self._is_cancelled = False
        self._is_closed = False
        self.trailing: dict[str, str] = {}

    def begin(self, headers: Headers, request: Any) -> None:
        """Send what is asked."""
        with self._translated():
            self._wire.open(headers)
            if isinstance(request, Iterator):
                threading.Thread(target=self._send_all, args=(request,), daemon=True).start()
            else:
                self._wire.send(_framed(request), last=True, from_reader=True)

    def single(self) -> Any:
        """The only message, after the call has ended."""
        answers = list(self)
        if len(answers) != 1:
            raise CallFailed(INTERNAL, "the daemon did not answer with one message", self.trailing, None)
        return answers[0]

    def __iter__(self) -> Call:
        return self

    def __next__(self) -> Any:
        if self._is_closed:
            raise StopIteration
        with self._translated():
            while True:
                if (message := self._message()) is not None:
                    return self._read(message)
                if self._wire.is_over:
                    break
                self._limit()
                self._wire.read()
        self._finish()
        raise StopIteration

    def cancel(self) -> None:
        """From any thread; a call that has ended stays as it is."""
        if not self._is_closed:
            self._is_cancelled = True
            self._wire.interrupt()
            if threading.current_thread() is threading.main_thread():
                self._end(reuse=False)

    def _message(self) -> bytes | None:
        data = self._wire.data
        if len(data) < _HEAD:
            return None
        size = int.from_bytes(data[1:_HEAD], "big")
        if data[0] or size > _MOST:
            raise Broken("a message is compressed or too long")
        if len(data) < _HEAD + size:
            return None
        return self._wire.take(_HEAD + size)[_HEAD:]

    def _limit(self) -> None:
        self._wire.limit(None if self._deadline is None else self._deadline - _CLOCK.monotonic())

    def _finish(self) -> None:
        """The other side has said its last word."""
        if self._is_closed:
            return
        told = self.trailing = self._wire.told
        code = int(told.get("grpc-status", UNKNOWN))
        self._end(reuse=code == OK)
        if code != OK:
            from urllib.parse import unquote

            raise CallFailed(code, unquote(told.get("grpc-message", "")), told, None)

    def _end(self, *, reuse: bool) -> None:
        self._is_closed = True
        reuse = reuse and self._wire.is_free()
        if not reuse:
            self._wire.close()
        self._host.ended(self, self._wire if reuse else None)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            self._end(reuse=False)
            raise CallFailed(DEADLINE_EXCEEDED, "Deadline Exceeded", {}, None) from error
        except (Broken, OSError) as error:
            self._end(reuse=False)
            if self._failure is not None:
                text = f"what is asked could not be read: {self._failure}"
                raise CallFailed(UNKNOWN, text, {}, None) from self._failure
            code = CANCELLED if self._is_cancelled else UNAVAILABLE
            raise CallFailed(code, str(error), {}, None) from error

    def _send_all(self, requests: Iterator[Any]) -> None:
        """In a thread of its own: each message when the one before has gone."""
        try:
            for request in requests:
                if not self._wire.send(_framed(request), last=False, from_reader=False):
                    return
            self._wire.send(b"", last=True, from_reader=False)
        except (Broken, OSError):
            return  # the reader is told so, too
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader raises it
            self._failure = error
            self._wire.interrupt()


class Service:
    """The methods of one service, by their names: ``service.call("Info", request, …)``."""

    def __init__(self, host: Host, descriptor: ServiceDescriptor) -> None:
        self._host = host
        self._methods = descriptor.methods_by_name

    def call(self, name: str, request: Any, seconds: float | None, metadata: Metadata = ()) -> Call:
        """Begin that call.  Raises CallFailed, AttributeError."""
        return self._host.call(self.method(name), request, seconds, metadata)

    def method(self, name: str) -> MethodDescriptor:
        """Raises AttributeError."""
        try:
            return self._methods[name]
        except KeyError:
            raise AttributeError(name) from None


def _framed(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return b"\0" + len(data).to_bytes(4, "big") + data


def _headers(method: MethodDescriptor, seconds: float | None, metadata: Metadata) -> Headers:
    limit = [] if seconds is None else [("grpc-timeout", f"{min(int(seconds * 1000), 99_999_999)}m")]
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/{method.containing_service.full_name}/{method.name}"),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "swarmctl"),
        *limit,
        *metadata,
    ]
