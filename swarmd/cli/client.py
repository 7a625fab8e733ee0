"""The way to a daemon: gRPC over its unix socket, errors turned into sentences.

Importing this module takes as long as a short call: do it inside the command that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from swarmd.cli.context import check_host
from swarmd.cli.errors import CliError, DaemonError, Unreachable
from swarmd.model.errors import OLDER
from swarmd.rpc.staleness import AGE_KEY, LEADER_KEY, READ_KEY, STALE
from swarmd.rpc.unix_calls import (
    DEADLINE_EXCEEDED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    Call,
    CallFailed,
    Host,
    Service,
)

if TYPE_CHECKING:
    from swarmd.rpc.v1.build_pb2_grpc import BuilderStub
    from swarmd.rpc.v1.containers_pb2_grpc import ContainersStub
    from swarmd.rpc.v1.control_pb2_grpc import ControlStub
    from swarmd.rpc.v1.images_pb2_grpc import ImagesStub
    from swarmd.rpc.v1.netdiag_pb2_grpc import NetworkDoctorStub
    from swarmd.rpc.v1.networks_pb2_grpc import NetworksStub
    from swarmd.rpc.v1.node_pb2_grpc import NodeApiStub
    from swarmd.rpc.v1.registry_pb2_grpc import RegistryStub
    from swarmd.rpc.v1.secrets_pb2_grpc import SecretsStub
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
    "ExamineNetwork",
)


class Client:
    """One daemon.  Calls on its stubs raise Unreachable or DaemonError, never grpc errors."""

    def __init__(self, host: str, warn_of_age: Callable[[str], None] | None) -> None:
        self.host = host
        self._daemon = Host(host.removeprefix("unix://"))
        self._warn_of_age = warn_of_age

    # Each command needs one or two of these, and the messages of all take longer to load than to send.

    @cached_property
    def control(self) -> ControlStub:
        from swarmd.rpc.v1 import control_pb2

        return cast(
            "ControlStub", self._lane(control_pb2.DESCRIPTOR, "Control", CONTROL_SECONDS, self._warn_of_age)
        )

    @cached_property
    def node(self) -> NodeApiStub:
        from swarmd.rpc.v1 import node_pb2

        return cast("NodeApiStub", self._lane(node_pb2.DESCRIPTOR, "NodeApi", NODE_SECONDS))

    @cached_property
    def networks(self) -> NetworksStub:
        from swarmd.rpc.v1 import networks_pb2

        return cast(
            "NetworksStub",
            self._lane(networks_pb2.DESCRIPTOR, "Networks", CONTROL_SECONDS, self._warn_of_age),
        )

    @cached_property
    def doctor(self) -> NetworkDoctorStub:
        from swarmd.rpc.v1 import netdiag_pb2

        return cast("NetworkDoctorStub", self._lane(netdiag_pb2.DESCRIPTOR, "NetworkDoctor", NODE_SECONDS))

    @cached_property
    def images(self) -> ImagesStub:
        from swarmd.rpc.v1 import images_pb2

        return cast("ImagesStub", self._lane(images_pb2.DESCRIPTOR, "Images", NODE_SECONDS))

    @cached_property
    def builder(self) -> BuilderStub:
        from swarmd.rpc.v1 import build_pb2

        return cast("BuilderStub", self._lane(build_pb2.DESCRIPTOR, "Builder", NODE_SECONDS))

    @cached_property
    def trust(self) -> TrustStub:
        from swarmd.rpc.v1 import trust_pb2

        return cast(
            "TrustStub", self._lane(trust_pb2.DESCRIPTOR, "Trust", CONTROL_SECONDS, self._warn_of_age)
        )

    @cached_property
    def secrets(self) -> SecretsStub:
        from swarmd.rpc.v1 import secrets_pb2

        return cast(
            "SecretsStub", self._lane(secrets_pb2.DESCRIPTOR, "Secrets", CONTROL_SECONDS, self._warn_of_age)
        )

    @cached_property
    def scanner(self) -> ScannerStub:
        from swarmd.rpc.v1 import trust_pb2

        return cast("ScannerStub", self._lane(trust_pb2.DESCRIPTOR, "Scanner", SCAN_SECONDS))

    @cached_property
    def registry(self) -> RegistryStub:
        from swarmd.rpc.v1 import registry_pb2

        return cast("RegistryStub", self._lane(registry_pb2.DESCRIPTOR, "Registry", NODE_SECONDS))

    @cached_property
    def containers(self) -> ContainersStub:
        from swarmd.rpc.v1 import containers_pb2

        return cast("ContainersStub", self._lane(containers_pb2.DESCRIPTOR, "Containers", NODE_SECONDS))

    def talk(self, method: str, messages: Iterator[Any]) -> Call:
        """A session with a container; its errors are for :func:`translate`.  Raises CliError."""
        from swarmd.rpc.v1 import containers_pb2

        try:
            return self._service(containers_pb2.DESCRIPTOR, "Containers").call(method, messages, None)
        except CallFailed as error:
            raise translate(error, self.host) from error

    def close(self) -> None:
        """Hang up; calls still running are cancelled."""
        self._daemon.close()

    def _service(self, file: Any, name: str) -> Service:
        return Service(self._daemon, file.services_by_name[name])

    def _lane(
        self, file: Any, name: str, seconds: float, warn_of_age: Callable[[str], None] | None = None
    ) -> _Lane:
        return _Lane(self._service(file, name), self.host, seconds, warn_of_age)

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
    return Client(host, warn_of_age)


class _Lane:
    """A service whose calls have a deadline and raise our errors."""

    def __init__(
        self,
        service: Service,
        host: str,
        seconds: float,
        warn_of_age: Callable[[str], None] | None = None,
    ) -> None:
        self._service = service
        self._host = host
        self._seconds = seconds
        self._warn_of_age = warn_of_age
        self._metadata = () if warn_of_age is None else ((READ_KEY, STALE),)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        is_stream = self._service.method(name).server_streaming
        limit = None if name in _UNLIMITED else self._seconds

        def call(request: Any, timeout: float | None = limit) -> Any:
            try:
                begun = self._service.call(name, request, timeout, self._metadata)
                if is_stream:
                    return self._stream(begun)
                answer = begun.single()
            except CallFailed as error:
                raise translate(error, self._host) from error
            self._tell_age(begun.trailing)
            return answer

        return call

    def _tell_age(self, told: dict[str, str]) -> None:
        if self._warn_of_age is not None and LEADER_KEY in told:
            self._warn_of_age(age_text(told.get(AGE_KEY), led=bool(told[LEADER_KEY])))
            self._warn_of_age = None

    def _stream(self, answers: Call) -> Iterator[Any]:
        try:
            yield from answers
        except CallFailed as error:
            raise translate(error, self._host) from error
        finally:
            answers.cancel()


def age_text(age: str | None, *, led: bool) -> str:
    """How old a stale answer may be; ``age`` in seconds, None when the manager does not know."""
    if age is None:
        return "WARNING: as this manager last knew it; it has heard of no leader since its daemon started"
    leader = "" if led else "; it knows of no leader now"
    return f"WARNING: as this manager knew it {float(age):.1f} s ago{leader}"


def translate(error: CallFailed, host: str) -> CliError:
    """Our error for one of gRPC: did the daemon answer, or could it not be reached?"""
    kind = error.trailing.get(KIND_KEY)
    if kind is None and error.code == UNAVAILABLE:
        return _not_reached(error, host)
    if error.code == DEADLINE_EXCEEDED:
        return DaemonError(error.details if kind else "the request was not answered in time", "unavailable")
    if kind is None and error.code == UNIMPLEMENTED:
        return DaemonError(OLDER, "refused")
    return DaemonError(error.details or f"error {error.code}", kind or "internal")


def _not_reached(error: CallFailed, host: str) -> CliError:
    if isinstance(error.refused, PermissionError):
        return Unreachable(
            f"permission denied while trying to connect to the swarmd daemon socket at {host}: "
            "use root or a user of the socket's group"
        )
    if error.refused is not None:
        return Unreachable(f"Cannot connect to the swarmd daemon at {host}. Is the daemon running?")
    return Unreachable(f"error during connect: the swarmd daemon at {host} hung up: {error.details}")
