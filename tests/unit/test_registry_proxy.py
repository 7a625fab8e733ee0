"""Registries behind a proxy: which requests go through it, and that they do."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from swarmd.image.registry.core.names import Way
from swarmd.image.registry.core.proxy import proxy_for
from swarmd.image.registry.http_client import HttpClient, Request

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("scheme", "host", "no_proxy", "is_used"),
    [
        ("https", "reg.example.com", "", True),
        ("http", "reg.example.com", "", False),
        ("https", "localhost", "", False),
        ("https", "127.0.0.1", "", False),
        ("https", "::1", "", False),
        ("https", "reg.example.com", "other.org, example.com", False),
        ("https", "example.com", ".example.com", True),
        ("https", "badexample.com", "example.com", True),
        ("https", "reg.example.com", "*.example.com", False),
        ("https", "reg.example.com", "reg.example.com:443", False),
        ("https", "reg.example.com", "reg.example.com:5000", True),
        ("https", "10.1.2.3", "10.0.0.0/8", False),
        ("https", "11.1.2.3", "10.0.0.0/8", True),
        ("https", "fd00::1", "fd00::/8", False),
        ("https", "reg.example.com", "*", False),
    ],
)
def test_the_environment_says_what_goes_through_a_proxy(
    scheme: str, host: str, no_proxy: str, is_used: bool
) -> None:
    environ = {"https_proxy": PROXY, "NO_PROXY": no_proxy}
    assert proxy_for(scheme, host, 443, environ) == (PROXY if is_used else "")


def test_a_proxy_without_a_scheme_speaks_http() -> None:
    assert proxy_for("http", "reg.example.com", 80, {"HTTP_PROXY": "p:1"}) == "http://p:1"


def no_tls(host: str, way: Way) -> ssl.SSLContext:
    raise AssertionError(host)


async def test_a_request_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", f"http://ann:secret@127.0.0.1:{port}")
    client = HttpClient(no_tls)
    try:
        reply = await client.send(Request("GET", "http://reg.invalid/v2/", "reg.invalid", Way("http")))
        assert await reply.read(10) == b"ok"
        reply.release()
    finally:
        await client.close()
        server.close()
    assert asked[0].startswith(b"GET http://reg.invalid/v2/ HTTP/1.1")
    assert b"Proxy-Authorization: Basic YW5uOnNlY3JldA==" in asked[0]
