"""The way to a daemon: gRPC over its unix socket, errors turned into sentences.

Importing this module imports grpc: do it inside the command that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import grpc

from swarmd.cli.context import check_host
from swarmd.cli.errors import CliError, DaemonError, Unreachable
from swarmd.rpc.staleness import AGE_KEY, LEADER_KEY, READ_KEY, STALE

if TYPE_CHECKING:
    from swarmd.rpc.v1.build_pb2_grpc import BuilderStub
    from swarmd.rpc.v1.containers_pb2_grpc import ContainersStub
    from swarmd.rpc.v1.control_pb2_grpc import ControlStub
    from swarmd.rpc.v1.images_pb2_grpc import ImagesStub
    from swarmd.rpc.v1.node_pb2_grpc import NodeApiStub
    from swarmd.rpc.v1.registry_pb2_grpc import RegistryStub
    from swarmd.rpc.v1.trust_pb2_grpc import ScannerStub, TrustStub

CONTROL_SECONDS = 30.0
NODE_SECONDS = 90.0
SCAN_SECONDS = 1800.0
KIND_KEY = "swarmd-kind"
_UNLIMITED = (
    "Logs",
    "Watch",
    "ReadAudit",
    "LoadImages",
    "ImportImage",
    "SaveSnapshot",
    "PreloadImage",
    "RestoreSwarm",
    "ReadLogs",
    "Build",
    "ExportCache",
    "ImportCache",
    "PruneCache",
    "CopyOut",
    "CopyIn",
    "Stats",
    "Wait",
    "Commit",
    "SaveImages",
    "PruneImages",
    "PruneContainers",
    "GetUsage",
    "Pull",
    "Push",
)
_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
]


class Client:
    """One daemon.  Calls on its stubs raise Unreachable or DaemonError, never grpc errors."""

    def __init__(self, host: str, channel: grpc.Channel, warn_of_age: Callable[[str], None] | None) -> None:
        self.host = host
        self._channel = channel
        self._warn_of_age = warn_of_age

    # Each command needs one or two of these, and the messages of all take longer to load than to send.

    @cached_property
    def control(self) -> ControlStub:
        from swarmd.rpc.v1.control_pb2_grpc import ControlStub

        return cast(
            "ControlStub", _Lane(ControlStub(self._channel), self.host, CONTROL_SECONDS, self._warn_of_age)
        )

    @cached_property
    def node(self) -> NodeApiStub:
        from swarmd.rpc.v1.node_pb2_grpc import NodeApiStub

        return cast("NodeApiStub", _Lane(NodeApiStub(self._channel), self.host, NODE_SECONDS))

    @cached_property
    def images(self) -> ImagesStub:
        from swarmd.rpc.v1.images_pb2_grpc import ImagesStub

        return cast("ImagesStub", _Lane(ImagesStub(self._channel), self.host, NODE_SECONDS))

    @cached_property
    def builder(self) -> BuilderStub:
        from swarmd.rpc.v1.build_pb2_grpc import BuilderStub

        return cast("BuilderStub", _Lane(BuilderStub(self._channel), self.host, NODE_SECONDS))

    @cached_property
    def trust(self) -> TrustStub:
        from swarmd.rpc.v1.trust_pb2_grpc import TrustStub

        return cast(
            "TrustStub", _Lane(TrustStub(self._channel), self.host, CONTROL_SECONDS, self._warn_of_age)
        )

    @cached_property
    def scanner(self) -> ScannerStub:
        from swarmd.rpc.v1.trust_pb2_grpc import ScannerStub

        return cast("ScannerStub", _Lane(ScannerStub(self._channel), self.host, SCAN_SECONDS))

    @cached_property
    def registry(self) -> RegistryStub:
        from swarmd.rpc.v1.registry_pb2_grpc import RegistryStub

        return cast("RegistryStub", _Lane(RegistryStub(self._channel), self.host, NODE_SECONDS))

    @cached_property
    def containers(self) -> ContainersStub:
        return cast("ContainersStub", _Lane(self._sessions, self.host, NODE_SECONDS))

    @cached_property
    def _sessions(self) -> ContainersStub:
        from swarmd.rpc.v1.containers_pb2_grpc import ContainersStub

        return ContainersStub(self._channel)

    def talk(self, method: str, messages: Iterator[Any]) -> Any:
        """A session with a container, as gRPC has it: its errors are for :func:`translate`."""
        return getattr(self._sessions, method)(messages)

    def close(self) -> None:
        """Hang up; calls still running are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(host: str, *, warn_of_age: Callable[[str], None] | None = None) -> Client:
    """A client of the daemon at ``unix:///path``.  Nothing is sent before the first call.

    With ``warn_of_age`` the manager answers from what it holds; it is called once, with a sentence on how old
    that may be.  Raises CliError when the address is no unix address.
    """
    check_host(host)
    return Client(host, grpc.insecure_channel(host, options=_OPTIONS), warn_of_age)


class _Lane:
    """A stub whose calls have a deadline and raise our errors."""

    def __init__(
        self,
        stub: object,
        host: str,
        seconds: float,
        warn_of_age: Callable[[str], None] | None = None,
    ) -> None:
        self._stub = stub
        self._host = host
        self._seconds = seconds
        self._warn_of_age = warn_of_age
        self._metadata = None if warn_of_age is None else ((READ_KEY, STALE),)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._stub, name)
        limit = None if name in _UNLIMITED else self._seconds

        def call(request: Any, timeout: float | None = limit) -> Any:
            try:
                if self._metadata is None or name in _UNLIMITED:
                    answer = method(request, timeout=timeout, metadata=self._metadata)
                else:
                    answer, done = method.with_call(request, timeout=timeout, metadata=self._metadata)
                    self._tell_age(done)
            except grpc.RpcError as error:
                raise translate(error, self._host) from error
            return self._stream(answer) if isinstance(answer, grpc.Call) else answer

        return call

    def _tell_age(self, done: grpc.Call) -> None:
        told: dict[Any, Any] = dict(done.trailing_metadata() or ())
        if self._warn_of_age is not None and LEADER_KEY in told:
            self._warn_of_age(age_text(told.get(AGE_KEY), led=bool(told[LEADER_KEY])))
            self._warn_of_age = None

    def _stream(self, answers: Any) -> Iterator[Any]:
        try:
            yield from answers
        except grpc.RpcError as error:
            raise translate(error, self._host) from error
        finally:
            answers.cancel()


def age_text(age: str | None, *, led: bool) -> str:
    """How old a stale answer may be; ``age`` in seconds, None when the manager does not know."""
    if age is None:
        return "WARNING: as this manager last knew it; it has heard of no leader since its daemon started"
    leader = "" if led else "; it knows of no leader now"
    return f"WARNING: as this manager knew it {float(age):.1f} s ago{leader}"


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
