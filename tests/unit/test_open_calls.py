"""Calls under way are asked again whether they may be, without a word to gRPC about calls that have ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from swarmd.api import open_calls
from swarmd.api.open_calls import OpenCalls
from swarmd.kit.supervise import caught
from swarmd.model.errors import Denied


class Context:
    """Of a call; once its connection is gone, to ask for the caller would end the process."""

    def __init__(self) -> None:
        self.is_gone = False

    def peer(self) -> str:
        assert not self.is_gone
        return "ipv4:10.0.0.9:4711"

    def auth_context(self) -> dict[str, Any]:
        assert not self.is_gone
        return {"x509_common_name": [b"n9"]}


class Details:
    method = "/swarmd.rpc.v1.Control/Logs"


async def endless(request: object, context: object) -> AsyncIterator[str]:
    yield "first"
    await asyncio.Event().wait()


async def test_a_call_is_cut_when_its_caller_may_not_make_it_any_more() -> None:
    barred: list[str] = []

    def check(method: str, context: Any) -> None:
        if barred and context.auth_context()["x509_common_name"] == [b"n9"]:
            raise Denied(f"{context.peer()} may not call {method} any more")

    calls, context = OpenCalls(check), Context()

    async def continuation(details: object) -> Any:
        return grpc.unary_stream_rpc_method_handler(endless)

    handler = await calls.intercept_service(continuation, Details)
    began = asyncio.Event()

    async def consume() -> None:
        async for _ in handler.unary_stream(b"", context):
            began.set()

    async with asyncio.TaskGroup() as group:
        call = group.create_task(caught(consume()))
        await began.wait()
        context.is_gone = True
        calls.recheck()
        assert not call.done()
        barred.append("n9")
        calls.recheck()
    with pytest.raises(Denied, match=r"ipv4:10\.0\.0\.9:4711 may not call .*Logs"):
        raise call.result() or AssertionError("not cut")


def barred(method: str, context: Any) -> None:
    raise Denied("not any more")


async def sending(calls: OpenCalls) -> AsyncIterator[str]:
    """A call of which the first answer is on its way to the caller."""

    async def continuation(details: object) -> Any:
        return grpc.unary_stream_rpc_method_handler(endless)

    handler = await calls.intercept_service(continuation, Details)
    answers: AsyncIterator[str] = handler.unary_stream(b"", Context())
    assert await anext(answers) == "first"
    return answers


async def test_a_call_that_is_cut_while_an_answer_is_on_its_way_says_why_after_it() -> None:
    calls = OpenCalls(barred)
    answers = await sending(calls)
    calls.recheck()
    with pytest.raises(Denied, match="not any more"):
        await anext(answers)


async def test_a_call_that_is_to_end_is_cut_once_however_often_rows_change() -> None:
    asked: list[str] = []

    def check(method: str, context: Any) -> None:
        asked.append(method)
        raise Denied("not any more")

    calls = OpenCalls(check)
    answers = await sending(calls)
    for _ in range(3):
        calls.recheck()
    assert len(asked) == 1
    with pytest.raises(Denied, match="not any more"):
        await anext(answers)


async def test_a_caller_who_does_not_take_what_is_sent_is_cut_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(open_calls, "LAST_ANSWER_SECONDS", 0.0)
    calls = OpenCalls(barred)

    async def deaf() -> None:
        async with contextlib.aclosing(await sending(calls)):  # type: ignore[type-var]
            calls.recheck()
            await asyncio.Event().wait()

    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(deaf())
