"""What a call declares of its audience, and a guard that believes nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from deploy.setup.api_reference import methods
from swarmd.api.guard import Guard, check_local, node_port_check
from swarmd.model.errors import Denied
from swarmd.rpc import audience
from swarmd.rpc.audience import audience_of
from swarmd.rpc.v1 import options_pb2

UNDECLARED = "/swarmd.test.Careless/Call"
DECLARED = "/swarmd.test.Careful/Call"


def _load_test_services() -> None:
    """Two services that no proto file of the product has: one declares nothing."""
    file = descriptor_pb2.FileDescriptorProto(
        name="swarmd/test.proto", package="swarmd.test", dependency=["swarmd/rpc/v1/options.proto"]
    )
    file.message_type.add(name="Empty")
    for name in ("Careless", "Careful"):
        service = file.service.add(name=name)
        service.method.add(name="Call", input_type=".swarmd.test.Empty", output_type=".swarmd.test.Empty")
    file.service[1].options.Extensions[options_pb2.default_audience] = audience.LOCAL
    descriptor_pool.Default().Add(file)


_load_test_services()


class Served(grpc.GenericRpcHandler):
    """Answers everything, and notes it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    def service(self, details: Any) -> Any:
        async def call(request: bytes, context: Any) -> bytes:
            self.reached.append(details.method)
            return b""

        return grpc.unary_unary_rpc_method_handler(call)


async def _try(channel: grpc.aio.Channel, path: str) -> str:
    """The status of a call.  On the wire one request and its end suit every kind of method."""
    try:
        call: Any = channel.unary_stream(path)(b"", timeout=60)
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[tuple[grpc.aio.Channel, Served]]:
    served = Served()
    server = grpc.aio.server(interceptors=[Guard(check_local)])
    server.add_generic_rpc_handlers((served,))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        yield channel, served
    await server.stop(None)


async def test_the_socket_serves_its_users_calls_and_refuses_those_between_nodes(
    socket: tuple[grpc.aio.Channel, Served],
) -> None:
    channel, served = socket
    found = {path: await _try(channel, path) for path in methods()}
    for_users = {
        path
        for path, method in methods().items()
        if audience.declared(method) in (audience.USERS, audience.LOCAL)
    }
    assert {path for path, code in found.items() if code == "OK"} == for_users == set(served.reached)
    assert {code for path, code in found.items() if path not in for_users} == {"PERMISSION_DENIED"}


async def test_a_call_that_declares_no_audience_never_reaches_its_method(
    socket: tuple[grpc.aio.Channel, Served],
) -> None:
    channel, served = socket
    assert await _try(channel, DECLARED) == "OK"
    assert await _try(channel, UNDECLARED) == "PERMISSION_DENIED"
    assert served.reached == [DECLARED]


def test_the_node_port_refuses_what_declares_no_audience_whoever_calls() -> None:
    check = node_port_check(lambda: "c1", lambda: None)
    for path in (UNDECLARED, DECLARED, "/swarmd.rpc.v1.Control/NoSuch", "nonsense"):
        with pytest.raises(Denied, match=r"nobody may call .* on the node port"):
            check(path, None)


def test_a_call_may_have_another_audience_than_its_service() -> None:
    assert audience_of("/swarmd.rpc.v1.NodePeer/GetBlob") == audience.MEMBERS
    assert audience_of("/swarmd.rpc.v1.NodePeer/TaskLogs") == audience.MANAGERS
