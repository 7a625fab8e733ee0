"""A server that stops: calls with one answer get it, streams do not hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmd.api.finishing import Finishing
from swarmd.rpc.v1 import images_pb2, images_pb2_grpc, node_pb2, node_pb2_grpc

LONG = 60.0


class Daemon(images_pb2_grpc.ImagesServicer, node_pb2_grpc.NodeApiServicer):
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def TagImage(self, request: Any, context: Any) -> node_pb2.TagImageResponse:  # noqa: N802
        self.asked.set()
        await self.answer.wait()
        return node_pb2.TagImageResponse()

    async def SaveImages(self, request: Any, context: Any) -> AsyncIterator[images_pb2.SaveImagesResponse]:  # noqa: N802
        while True:
            yield images_pb2.SaveImagesResponse(data=b"x")
            await asyncio.Event().wait()


class Rig:
    def __init__(self, path: Path) -> None:
        self.daemon, self.finishing = Daemon(), Finishing()
        self.server = grpc.aio.server(interceptors=[self.finishing])
        images_pb2_grpc.add_ImagesServicer_to_server(self.daemon, self.server)
        node_pb2_grpc.add_NodeApiServicer_to_server(self.daemon, self.server)
        self.server.add_insecure_port(f"unix:{path}")
        self.channel = grpc.aio.insecure_channel(f"unix:{path}")

    def tag(self, limit: float = LONG) -> Any:
        return node_pb2_grpc.NodeApiStub(self.channel).TagImage(node_pb2.TagImageRequest(), timeout=limit)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "d.sock")
    await rig.server.start()
    yield rig
    await rig.channel.close()
    await rig.server.stop(None)


async def test_a_call_under_way_is_answered_before_the_server_goes_and_no_other_begins(rig: Rig) -> None:
    call = rig.tag()
    await rig.daemon.asked.wait()
    leaving = asyncio.ensure_future(rig.finishing.see_off(rig.server, limit=LONG))
    while await takes_calls(rig):
        pass
    assert not leaving.done()
    rig.daemon.answer.set()
    assert await call == node_pb2.TagImageResponse()
    async with asyncio.timeout(LONG):
        await leaving


async def takes_calls(rig: Rig) -> bool:
    return await rig.tag(0.2).code() is not grpc.StatusCode.UNAVAILABLE


async def test_nobody_waits_for_a_stream(rig: Rig) -> None:
    stream = images_pb2_grpc.ImagesStub(rig.channel).SaveImages(images_pb2.SaveImagesRequest())
    assert (await stream.read()).data == b"x"
    async with asyncio.timeout(LONG):
        await rig.finishing.see_off(rig.server, limit=2 * LONG)
    await rig.server.stop(0)
    assert await stream.code() is not grpc.StatusCode.OK


async def test_a_call_that_takes_too_long_is_not_waited_for(rig: Rig) -> None:
    call = rig.tag()
    await rig.daemon.asked.wait()
    async with asyncio.timeout(LONG):
        await rig.finishing.see_off(rig.server, limit=0.01)
    call.cancel()
