"""What strangers can take of a shared port, and what is left open when something goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import socket
import ssl
import struct

import pytest

from swarmd.node.network.port import Certificate
from swarmd.node.router import handshakes, listener
from swarmd.node.router.exchange import Exchange
from tests.integration.router_bed import Rig
from tests.unit.test_secrets import KEY, certificate, key_pem

GET = b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
LIMIT = 60.0


async def is_refused(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return not await reader.read()
    return True


async def test_whoever_does_not_shake_hands_keeps_no_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "SECONDS", LIMIT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with Rig() as rig, asyncio.timeout(LIMIT):
        rig.router._most = 40
        key = Certificate("c1", certificate(KEY, "app.example.com") + key_pem(KEY))
        await rig.serve(rig.route("app.example.com", await rig.app("one"), tls="c1"), certificates=(key,))
        silent = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(30)]
        waits = [asyncio.ensure_future(is_refused(reader)) for reader, _ in silent]
        for done in itertools.islice(asyncio.as_completed(waits), 6):  # 24 of one address may wait
            assert await done
        code, out = await rig.curl("https://app.example.com/", "-k", "--interface", "127.0.0.2")
        assert (code, b'"one"' in out) == (0, True)
        assert sum(wait.done() for wait in waits) == 6
        for _, writer in silent:
            writer.close()
        while (await rig.curl("https://app.example.com/", "-k"))[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert rig.failures == []


async def test_a_listener_that_closes_cuts_off_who_has_not_shaken_hands() -> None:
    async with Rig() as rig, asyncio.timeout(LIMIT):
        await rig.serve(rig.route("app.example.com", await rig.app("one"), tls="c1"))
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        await rig.serve()
        assert await is_refused(reader)
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", rig.port)
        await rig.serve(rig.route("app.example.com", await rig.app("two")))
        assert (await rig.curl("http://app.example.com/"))[0] == 0


async def test_an_answer_that_is_reset_before_its_end_looks_whole_to_nobody() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")  # its end is the connection's
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with Rig() as rig, asyncio.timeout(LIMIT):
        await rig.serve(rig.route("app.example.com", await rig.raw("one", cut)))
        for options in ((), ("--http2-prior-knowledge",)):
            code, _ = await rig.curl("http://app.example.com/", *options)
            assert code, "an error of curl's"


async def test_a_failure_of_the_router_itself_leaves_no_client_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(exchange: Exchange) -> None:
        raise RuntimeError("nobody thought of that")

    monkeypatch.setattr(listener.Exchange, "run", fail)
    async with Rig() as rig, asyncio.timeout(LIMIT):
        await rig.serve(rig.route("app.example.com", await rig.app("one")))
        with contextlib.suppress(ConnectionResetError):
            assert await rig.talk(GET) == b""
        code, _ = await rig.curl("http://app.example.com/", "--http2-prior-knowledge", "--max-time", "25")
        assert code == 92  # the stream was reset
        assert [failure.partition(": ")[2] for failure in rig.failures] == [
            "RuntimeError('nobody thought of that')"
        ] * 2


async def test_many_requests_at_once_are_answered_in_order() -> None:
    def request(number: int) -> bytes:
        body = b"x" * (number % 3 * 1500)
        end = "close" if number == 399 else "keep-alive"
        return (
            f"POST /{number} HTTP/1.1\r\nHost: app.example.com\r\nConnection: {end}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async with Rig() as rig, asyncio.timeout(LIMIT):
        await rig.serve(rig.route("app.example.com", await rig.app("one")))
        answers = await rig.talk(b"".join(request(number) for number in range(400)))
        told = [json.loads(found) for found in re.findall(rb"\{.*\}", answers)]
        assert [(one["path"], one["size"]) for one in told] == [
            (f"/{number}", number % 3 * 1500) for number in range(400)
        ]
        assert rig.failures == []


async def test_who_sends_many_requests_at_once_does_not_keep_others_waiting() -> None:
    turns = 0
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal turns, next_turn
        turns += 1
        next_turn = loop.call_soon(turn)

    async with Rig() as rig, asyncio.timeout(LIMIT):
        await rig.serve(rig.route("app.example.com"))
        next_turn = loop.call_soon(turn)
        answers = await rig.talk(GET * 2999 + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        next_turn.cancel()
        assert answers.count(b"HTTP/1.1 503 ") == 3000
        assert turns > 3000
