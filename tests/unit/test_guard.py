"""The net in front of every call, when nobody is there any more to hear how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
from structlog.testing import capture_logs

from swarmd.api.guard import Guard
from swarmd.model.errors import Unavailable
from swarmd.rpc import errors


class Served(grpc.GenericRpcHandler):
    """One method, which fails with a sentence after its caller has gone."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def service(self, details: Any) -> Any:
        async def call(request: bytes, context: Any) -> bytes:
            self.reached.set()
            with contextlib.suppress(asyncio.CancelledError):  # as in a manager whose term ends just then
                await asyncio.Event().wait()
            try:
                await errors.abort(context, Unavailable("no leader"))
            except BaseException as error:
                self.ended.set_result(error)
                raise

        return grpc.unary_unary_rpc_method_handler(call)


async def test_an_error_that_no_caller_hears_any_more_is_no_failure_of_the_daemon(tmp_path: Path) -> None:
    served = Served()
    server = grpc.aio.server(interceptors=[Guard(lambda method, context: None)])
    server.add_generic_rpc_handlers((served,))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    with capture_logs() as logs:
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
            call: Any = channel.unary_unary("/swarmd.test.Any/Call")(b"")
            await asyncio.wait_for(served.reached.wait(), 60)
            call.cancel()
            error = await asyncio.wait_for(served.ended, 60)
        await server.stop(5)
    assert isinstance(error, grpc.aio.AbortError), error
    assert [entry for entry in logs if entry["event"] == "call_failed"] == []
