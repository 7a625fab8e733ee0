"""The way to a daemon: gRPC over its unix socket, errors turned into sentences.

Importing this module imports grpc: do it inside the command that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, cast

import grpc

from swarmd.cli.context import check_host
from swarmd.cli.errors import CliError, DaemonError, Unreachable
from swarmd.rpc.v1.control_pb2_grpc import ControlStub
from swarmd.rpc.v1.node_pb2_grpc import NodeApiStub

CONTROL_SECONDS = 30.0
NODE_SECONDS = 90.0
KIND_KEY = "swarmd-kind"
_UNLIMITED = ("Logs", "Watch", "ReadAudit", "LoadImages", "ImportImage")
_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
]


class Client:
    """One daemon.  Calls on ``control`` and ``node`` raise Unreachable or DaemonError, never grpc errors."""

    def __init__(self, host: str, channel: grpc.Channel) -> None:
        self.host = host
        self._channel = channel
        self.control = cast(ControlStub, _Lane(ControlStub(channel), host, CONTROL_SECONDS))
        self.node = cast(NodeApiStub, _Lane(NodeApiStub(channel), host, NODE_SECONDS))

    def close(self) -> None:
        """Hang up; calls still running are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(host: str) -> Client:
    """A client of the daemon at ``unix:///path``.  Nothing is sent before the first call.

    Raises CliError when the address is no unix address.
    """
    check_host(host)
    return Client(host, grpc.insecure_channel(host, options=_OPTIONS))


class _Lane:
    """A stub whose calls have a deadline and raise our errors."""

    def __init__(self, stub: object, host: str, seconds: float) -> None:
        self._stub = stub
        self._host = host
        self._seconds = seconds

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._stub, name)
        limit = None if name in _UNLIMITED else self._seconds

        def call(request: Any, timeout: float | None = limit) -> Any:
            try:
                answer = method(request, timeout=timeout)
            except grpc.RpcError as error:
                raise translate(error, self._host) from error
            return self._stream(answer) if isinstance(answer, grpc.Call) else answer

        return call

    def _stream(self, answers: Any) -> Iterator[Any]:
        try:
            yield from answers
        except grpc.RpcError as error:
            raise translate(error, self._host) from error
        finally:
            answers.cancel()


def translate(error: grpc.RpcError, host: str) -> CliError:
    """Our error for a gRPC one: did the daemon answer, or could it not be reached?"""
    call = cast(grpc.Call, error)
    code, details = call.code(), call.details() or ""
    kind = dict(call.trailing_metadata() or ()).get(KIND_KEY)
    if kind is None and code is grpc.StatusCode.UNAVAILABLE:
        return _not_reached(details, host)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DaemonError(details if kind else "the request was not answered in time", "unavailable")
    return DaemonError(details or code.name, str(kind or "internal"))


def _not_reached(details: str, host: str) -> CliError:
    if "Permission denied" in details:
        return Unreachable(
            f"permission denied while trying to connect to the swarmd daemon socket at {host}: "
            "use root or a user of the socket's group"
        )
    if "failed to connect" in details.lower():
        return Unreachable(f"Cannot connect to the swarmd daemon at {host}. Is the daemon running?")
    return Unreachable(f"error during connect: the swarmd daemon at {host} hung up: {details}")
