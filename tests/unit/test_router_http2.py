"""One HTTP/2 client of a shared port, as its connection sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import h2.config
import h2.connection

from swarmd.node.router.client import Client
from swarmd.node.router.core.request import Line
from swarmd.node.router.http2 import Http2


class Transport(asyncio.Transport):
    """Takes everything."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def test_requests_of_a_client_that_has_gone_are_not_begun() -> None:
    served: list[Client] = []

    async def serve(client: Client) -> None:
        served.append(client)

    tasks: list[asyncio.Task[object]] = []

    def launch(name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[object]:
        tasks.append(asyncio.get_running_loop().create_task(work))
        return tasks[-1]

    line = Line("http", "127.0.0.1", 80)
    server = Http2(line, serve, launch, lambda: 0.0, lambda gone: None)
    caller = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    caller.initiate_connection()
    for _ in range(600):
        caller.ping(b"12345678")
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example.com")]
    for number in range(1, 100, 2):
        caller.send_headers(number, fields, end_stream=True)
    server.connection_made(Transport())
    server.data_received(caller.data_to_send())
    server.connection_lost(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (served, tasks) == ([], [])
