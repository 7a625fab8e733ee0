"""HTTP on shared ports with real clients: curl, WebSockets, sockets that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from swarmd.kit.clock import SystemClock
from swarmd.node.network.port import Certificate, NetworkState, PublishedPort
from swarmd.node.network.publishing import Publishing
from swarmd.node.router.http1 import Http1
from tests.integration.router_bed import Rig
from tests.unit.test_control_bed import ManualClock
from tests.unit.test_secrets import KEY, OTHER, certificate, key_pem

GET = b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n"


def told(out: bytes) -> dict[str, Any]:
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


async def test_host_and_path_lead_to_their_services_in_every_version_of_http() -> None:
    async with Rig() as rig:
        one, two, three = [await rig.app(name) for name in ("one", "two", "three")]
        await rig.serve(
            rig.route("app.example.com", one),
            rig.route("app.example.com", two, path="/api"),
            rig.route("*.example.com", three),
        )
        for option in ("--http1.0", "--http1.1", "--http2-prior-knowledge"):
            asked = [
                ("app", "/x", "one"),
                ("app", "/api/x?q=1", "two"),
                ("app", "/apis", "one"),
                ("b", "/", "three"),
            ]
            for host, path, task in asked:
                code, out = await rig.curl(f"http://{host}.example.com{path}", option)
                assert (code, told(out)["task"], told(out)["path"]) == (0, task, path), option
        assert {line.service for line in rig.lines} == {"service-app.example.com", "service-*.example.com"}
        assert rig.failures == []


async def test_tasks_hear_who_asked_and_clients_on_ipv6_are_served() -> None:
    async with Rig() as rig:
        await rig.serve(rig.route("app.example.com", await rig.app("one")))
        _, out = await rig.curl("http://app.example.com/", "-H", "X-Forwarded-For: 10.1.1.1")
        heard = told(out)["headers"]
        assert heard["x-forwarded-for"] == "10.1.1.1, 127.0.0.1"
        assert (heard["x-forwarded-proto"], heard["x-forwarded-host"]) == ("http", "app.example.com")
        assert heard["x-forwarded-port"] == str(rig.port)
        if socket.has_ipv6 and _has_loopback6():
            _, out = await rig.curl("http://app.example.com/", address="[::1]")
            assert told(out)["headers"]["x-forwarded-for"] == "::1"


async def test_what_cannot_be_answered_is_said_in_plain_words() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    async with Rig() as rig:
        gone = await rig.raw("gone", hang_up)
        strange = await rig.raw("strange", babble)
        closed = socket.create_server(("127.0.0.1", 0))
        nobody = await rig.raw("nobody", hang_up)
        nobody = type(nobody)("nobody", "127.0.0.1", int(closed.getsockname()[1]), "n1")
        closed.close()
        await rig.serve(
            rig.route("none.example.com"),
            rig.route("nobody.example.com", nobody),
            rig.route("gone.example.com", gone),
            rig.route("strange.example.com", strange),
        )
        for host, status in (("x", 404), ("none", 503), ("nobody", 502), ("gone", 502), ("strange", 502)):
            for option in ("--http1.1", "--http2-prior-knowledge"):
                code, out = await rig.curl(f"http://{host}.example.com/", option, "-w", "%{http_code}")
                assert (code, out[:3], out[-3:]) == (0, b"%d" % status, b"%d" % status), out
        requests, port = rig.router.counts().requests, str(rig.port)
        assert (requests["", port, "4xx"], requests["service-none.example.com", port, "5xx"]) == (2, 2)
        assert sum(requests.values()) == 10
        assert rig.failures == []


async def test_bodies_pass_in_pieces_both_ways() -> None:
    size = 24 << 20
    async with Rig() as rig:
        await rig.serve(rig.route("app.example.com", await rig.app("one")))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for option in ("--http1.1", "--http2-prior-knowledge"):
            code, out = await rig.curl("http://app.example.com/up", option, "-T", "-", stdin=bytes(size))
            assert (code, told(out)["size"]) == (0, size)
            code, out = await rig.curl("http://app.example.com/up", option, "-d", "12345")
            assert (told(out)["size"], told(out)["headers"]["content-length"]) == (5, "5")
            code, out = await rig.curl(
                "http://app.example.com/big?160", option, "-o", "/dev/null", "-w", "%{size_download}"
            )
            assert (code, int(out)) == (0, 160 << 20)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 120 << 10, f"{grown} KiB for a body of {160 << 10}"
        code, out = await rig.curl("http://app.example.com/head", "-I")
        assert b"content-length" in out.lower()


async def test_a_websocket_goes_through_and_stays() -> None:
    async with Rig() as rig:
        await rig.serve(rig.route("app.example.com", await rig.app("one")))
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                f"http://127.0.0.1:{rig.port}/ws", headers={"Host": "app.example.com"}
            ) as socket_,
        ):
            for text in ("one", "x" * 100_000):
                await socket_.send_str(text)
                assert await socket_.receive_str(timeout=60) == f"echo {text}"
        _, out = await rig.curl(
            "http://app.example.com/", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"
        )
        assert told(out)["task"] == "one", "who does not answer with 101 is heard all the same"
        assert rig.failures == []


async def test_names_choose_certificates_and_a_new_one_disturbs_nobody() -> None:
    def shown(host: str, context: ssl.SSLContext) -> Any:
        with (
            socket.create_connection(("127.0.0.1", rig.port), 10) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return secured.getpeercert(binary_form=True), secured.selected_alpn_protocol()

    def served(name: str, host: str, key: Any) -> tuple[Certificate, bytes]:
        pem = certificate(key, host)
        return Certificate(name, pem + key_pem(key)), ssl.PEM_cert_to_DER_cert(pem.decode())

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    async with Rig() as rig:
        task = await rig.app("one")
        routes = (
            rig.route("app.example.com", task, tls="c1"),
            rig.route("*.example.org", task, tls="c2"),
        )
        first, first_der = served("c1", "app.example.com", KEY)
        wild, wild_der = served("c2", "*.example.org", OTHER)
        await rig.serve(*routes)
        assert any("waits for a manager" in one for one in rig.router.problems())
        await rig.serve(*routes, certificates=(first, wild))
        assert rig.router.problems() == ()
        for host, der in (("app.example.com", first_der), ("a.example.org", wild_der)):
            assert await asyncio.to_thread(shown, host, context) == (der, "h2")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", rig.port, ssl=context, server_hostname="app.example.com"
        )
        code, out = await rig.curl("https://app.example.com/x", "-k", "--http2", "-w", "%{http_version}")
        assert (code, out[-1:]) == (0, b"2")
        second, second_der = served("c1", "app.example.com", OTHER)
        await rig.serve(*routes, certificates=(second, wild))
        assert (await asyncio.to_thread(shown, "app.example.com", context))[0] == second_der
        assert not reader.at_eof(), "who was connected still is"
        writer.close()
        _, out = await rig.curl("https://app.example.com/x", "-k", "--http1.1")
        assert told(out)["headers"]["x-forwarded-proto"] == "https"
        assert rig.failures == []


async def test_a_task_that_leaves_ends_what_it_does_and_gets_nothing_more() -> None:
    async with Rig() as rig:
        old, new = await rig.app("old"), await rig.app("new")
        await rig.serve(rig.route("app.example.com", old))
        await rig.curl("http://app.example.com/")
        slow = asyncio.ensure_future(rig.curl("http://app.example.com/slow"))
        await asyncio.wait_for(rig.began.wait(), 60)
        await rig.serve(rig.route("app.example.com", new))
        for _ in range(4):
            assert told((await rig.curl("http://app.example.com/"))[1])["task"] == "new"
        rig.go.set()
        assert told((await slow)[1])["task"] == "old"


async def test_a_kept_connection_that_a_task_closes_costs_no_request_that_can_be_repeated() -> None:
    calls: list[bytes] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers once on each connection; the next request on it finds it closing."""
        calls.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        with contextlib.suppress(asyncio.IncompleteReadError):
            calls.append(await reader.readuntil(b"\r\n\r\n"))
        writer.transport.abort()

    async with Rig(ManualClock()) as rig:
        await rig.serve(rig.route("app.example.com", await rig.raw("once", once)))
        for _ in range(3):
            assert (await rig.curl("http://app.example.com/")) == (0, b"ok")
        assert len(calls) == 5, "two of them found the connection closing and were asked again"
        code, out = await rig.curl("http://app.example.com/", "-X", "POST", "-w", "%{http_code}")
        assert (code, out[-3:]) == (0, b"502"), "what may have been done is not done twice"


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: app.example.com\n\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"GET /" + b"x" * 70_000,
    ],
)
async def test_what_is_no_clear_request_is_refused_and_its_connection_closed(data: bytes) -> None:
    async with Rig() as rig:
        await rig.serve(rig.route("app.example.com", await rig.app("one")))
        answer = await rig.talk(data + GET)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 414"))
        assert answer.count(b"\r\n\r\n") == 1, "nothing behind it is read"


async def test_who_is_refused_while_it_still_sends_is_not_cut_off() -> None:
    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", rig.port), timeout=60) as sock:
            sock.sendall(b"GET /" + b"x" * 70_000)
            answer = b""
            while piece := sock.recv(1 << 16):
                answer += piece
            for _ in range(20):
                sock.sendall(b"x" * 10_000)
            return answer

    async with Rig(ManualClock()) as rig:
        await rig.serve(rig.route("app.example.com", await rig.app("one")))
        assert (await asyncio.to_thread(ask)).startswith(b"HTTP/1.1 4")
        assert rig.failures == []


async def test_requests_in_a_row_are_answered_in_their_order() -> None:
    async with Rig() as rig:
        await rig.serve(rig.route("app.example.com", await rig.app("one")))
        paths = [f"/{number}" for number in range(20)]
        data = b"".join(GET.replace(b"/ ", path.encode() + b" ", 1) for path in paths)
        last = b"GET /last HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n"
        answers = (await rig.talk(data + last)).split(b"HTTP/1.1 200 OK")[1:]
        assert [told(one.partition(b"\r\n\r\n")[2])["path"] for one in answers] == [*paths, "/last"]


async def test_a_port_of_another_program_is_named_and_served_once_it_is_free() -> None:
    async with Rig() as rig:
        route = rig.route("app.example.com", await rig.app("one"))
        with socket.create_server(("0.0.0.0", rig.port)):
            await rig.serve(route)
            said = f"port {rig.port}/tcp is taken on this node by another process"
            assert (rig.router.problems(), rig.router.is_waiting()) == ((said,), True)
        await rig.serve(route)
        assert (rig.router.problems(), rig.router.is_waiting()) == ((), False)
        assert told((await rig.curl("http://app.example.com/"))[1])["task"] == "one"
        await rig.serve()
        with socket.create_server(("0.0.0.0", rig.port)):
            pass


async def test_who_waits_too_long_is_told() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        heard.set()

    clock, heard = ManualClock(), asyncio.Event()
    async with Rig(clock) as rig:
        await rig.serve(rig.route("app.example.com", await rig.raw("never", never)))

        async def answer_to(data: bytes, is_heard: Callable[[], object]) -> bytes:
            waiting = asyncio.ensure_future(rig.talk(data))
            async with asyncio.timeout(60):
                while not is_heard():  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            while not waiting.done():
                clock.advance(60.0)
                await asyncio.sleep(0.01)
            return await waiting

        def speaks() -> bool:
            return any(type(client) is Http1 for client in rig.router._listeners[rig.port]._clients)

        assert (await answer_to(GET, heard.is_set)).startswith(b"HTTP/1.1 504 Gateway Timeout")
        assert (await answer_to(GET[:20], speaks)).startswith(b"HTTP/1.1 408 Request Timeout")
        assert await answer_to(b"", lambda: True) == b"", "who never said a word hears none"


def _has_loopback6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def test_a_port_changes_hands_between_a_service_alone_and_those_that_share_it() -> None:
    async with Rig() as rig:
        task = await rig.app("one")
        publishing = Publishing(SystemClock(), lambda name, error: rig.failures.append(f"{name}: {error}"))
        alone = PublishedPort("id", "web", "tcp", rig.port, (task,))
        alive = frozenset((task.node_id,))
        try:
            for _ in range(2):
                publishing.tell(NetworkState(1, (), (alone,)))
                await publishing.open(alive)
                assert told((await rig.curl("http://other.example.com/"))[1])["task"] == "one"
                publishing.tell(NetworkState(1, (), ()))
                await publishing.open(alive, (rig.route("app.example.com", task),))
                assert told((await rig.curl("http://app.example.com/"))[1])["task"] == "one"
                _, out = await rig.curl("http://other.example.com/")
                assert out.startswith(b"404")
            assert (publishing.problems(), rig.failures) == ((), [])
        finally:
            await publishing.close()
