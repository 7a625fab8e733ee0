"""Around a gRPC call: failures in words, and a cancellation stays one."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from swarmd.model.errors import NotFound, Refused, Unavailable
from swarmd.rpc.errors import KIND_KEY, calling, was_told


def failed(details: str, *trailing: tuple[str, str]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details
    )


async def test_what_a_call_fails_with_comes_as_the_error_it_was() -> None:
    with pytest.raises(NotFound, match="no such task"), calling():
        raise failed("no such task", (KIND_KEY, "not_found"))
    with pytest.raises(Unavailable, match="connection refused"), calling():
        raise failed("connection refused")


async def test_a_call_that_an_older_version_does_not_know_says_what_to_do() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNIMPLEMENTED, grpc.aio.Metadata(), grpc.aio.Metadata(), details="Method not found!"
    )
    with (
        pytest.raises(Refused, match="an older version of swarmd, which does not know this command"),
        calling(),
    ):
        raise error
    assert was_told(error), "it was not the connection that failed"


async def test_a_channel_closed_under_a_call_is_not_a_cancellation_of_the_caller() -> None:
    with pytest.raises(Unavailable, match="closed during a call"), calling():
        raise asyncio.CancelledError


async def test_a_call_that_fails_as_its_caller_is_cancelled_does_not_hide_the_cancellation() -> None:
    started = asyncio.Event()

    async def call() -> None:
        with calling():
            try:
                started.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:  # as grpc.aio does while it prepares a call
                raise failed("connection refused") from None

    task = asyncio.get_running_loop().create_task(call())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_within_a_time_limit_ends_as_a_timeout() -> None:
    async def call() -> None:
        async with asyncio.timeout(0):
            with calling():
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await call()
