"""The router's decisions: which route, which task, which headers, and what is refused."""

from __future__ import annotations

import pytest

from swarmd.node.network.port import Backend, HttpRoute
from swarmd.node.router.core import headers
from swarmd.node.router.core.choice import choose
from swarmd.node.router.core.match import certificate_for, host_name, plain_path, table
from swarmd.node.router.core.request import Bad, Line, Request, http1, http2
from swarmd.node.router.http import END, Answered, Asked, Reading

LINE = Line("http", "192.0.2.7", 80)


def route(host: str, path: str = "/", tls: str = "") -> HttpRoute:
    return HttpRoute("id", f"{host}{path}", 80, host, path, tls, ())


ROUTES = table(
    [
        route("app.example.com"),
        route("app.example.com", "/api"),
        route("app.example.com", "/api/v2"),
        route("api.example.com", "/only"),
        route("*.example.com"),
        route("*.deep.example.com"),
        route("", "/any"),
    ]
)


@pytest.mark.parametrize(
    ("host", "target", "found"),
    [
        ("app.example.com", "/", "app.example.com/"),
        ("APP.Example.com.:8080", "/x", "app.example.com/"),
        ("app.example.com", "/api", "app.example.com/api"),
        ("app.example.com", "/api/x", "app.example.com/api"),
        ("app.example.com", "/apix", "app.example.com/"),
        ("app.example.com", "/api?x=/api/v2", "app.example.com/api"),
        ("app.example.com", "/api/v2/x", "app.example.com/api/v2"),
        ("app.example.com", "/x/../api/y", "app.example.com/api"),
        ("app.example.com", "/%61pi/y", "app.example.com/api"),
        ("app.example.com", "/api/../y", "app.example.com/"),
        ("app.example.com", "//api/./v2//y", "app.example.com/api/v2"),
        ("other.example.com", "/", "*.example.com/"),
        ("a.b.example.com", "/", "*.example.com/"),
        ("x.deep.example.com", "/", "*.deep.example.com/"),
        ("deep.example.com", "/", "*.example.com/"),
        ("api.example.com", "/only/x", "api.example.com/only"),
        ("api.example.com", "/other", "*.example.com/"),
        ("example.com", "/", None),
        ("example.com", "/any", "/any"),
        ("[2001:db8::1]:80", "/any/x", "/any"),
    ],
)
def test_the_nearest_host_with_the_longest_path_answers(host: str, target: str, found: str | None) -> None:
    answer = ROUTES.find(host_name(host), plain_path(target))
    assert (answer.service_name if answer else None) == found


def test_the_certificate_is_the_server_names() -> None:
    routes = [route("", tls="any"), route("*.example.com", tls="wild"), route("app.example.com", tls="own")]
    names = ("app.example.com", "b.example.com", "c.org", None)
    assert [certificate_for(name, routes) for name in names] == ["own", "wild", "any", "any"]
    assert certificate_for("c.org", routes[1:]) == "wild", "the first there is"
    assert certificate_for("c.org", []) == ""


def test_the_least_busy_task_answers_and_one_that_failed_lately_comes_last() -> None:
    backends = [Backend(name, f"10.0.0.{name}", 80, "n") for name in "123"]

    def chosen(turn: int, busy: dict[str, int], tried: str = "", shunned: str = "") -> str | None:
        def keys(names: str) -> set[tuple[str, int]]:
            return {(f"10.0.0.{name}", 80) for name in names}

        counts = {(f"10.0.0.{name}", 80): count for name, count in busy.items()}
        one = choose(backends, turn, busy=counts, tried=keys(tried), shunned=keys(shunned))
        return one.task_id if one else None

    assert [chosen(turn, {}) for turn in range(4)] == ["1", "2", "3", "1"]
    assert chosen(0, {"1": 2, "2": 1, "3": 3}) == "2"
    assert chosen(0, {"1": 0, "2": 5, "3": 5}, shunned="1") == "2"
    assert chosen(0, {}, tried="13", shunned="2") == "2"
    assert chosen(0, {}, tried="123") is None


def asked(data: bytes) -> Request:
    event = Reading(requests=True).feed(data)[0]
    assert isinstance(event, Asked)
    return http1(event.method, event.target, event.version, event.headers, LINE, upgrade=event.upgrade)


HEAD = b"POST /x HTTP/1.1\r\nHost: app.example.com\r\n"
SMUGGLED = {
    "length and chunks": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    "the same length twice": HEAD + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": HEAD + b"Content-Length: 4, 4\r\n\r\nabcd",
    "a signed length": HEAD + b"Content-Length: +4\r\n\r\nabcd",
    "a folded header": HEAD + b"A: b\r\n Content-Length: 4\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "one bare line feed": b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "another coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "the coding twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare line feed after a chunk's length": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n4\nabcd\r\n0\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a host that is none": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a zero byte": HEAD + b"A: b\0c\r\n\r\n",
    "no path": b"GET app HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a head without an end": HEAD + b"".join(b"A%d: %b\r\n" % (n, b"x" * 1000) for n in range(100)),
    "a line without an end": HEAD + b"A: " + b"x" * 40000,
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_what_two_servers_could_read_in_two_ways_is_refused(data: bytes) -> None:
    with pytest.raises(Bad) as caught:
        asked(data)
    assert caught.value.status in (400, 405, 431, 501)


async def test_a_body_comes_in_pieces_and_the_next_request_behind_it() -> None:
    reading = Reading(requests=True)
    first = reading.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4;a=b\r\nab")
    second = reading.feed(b"cd\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(first[0], Asked)
    assert first[1:] == [b"ab"]
    assert second[:2] == [b"cd", END]
    assert isinstance(second[2], Asked)
    assert second[3:] == [END]


async def test_what_follows_an_upgrade_is_passed_as_it_is() -> None:
    reading = Reading(requests=True)
    head = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert reading.feed(head + b"\x81\x00")[1:] == [END, b"\x81\x00"]
    assert reading.feed(b"GET / HTTP/1.1\n") == [b"GET / HTTP/1.1\n"]


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    reading = Reading(requests=False)
    events = reading.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert isinstance(events[0], Answered)
    assert (events[0].keep, events[1:]) == (False, [b"abc"])
    assert reading.end() == [END]
    cut = Reading(requests=False)
    cut.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    with pytest.raises(Bad):
        cut.end()


async def test_the_client_is_added_and_what_it_says_of_the_way_is_not_believed() -> None:
    request = asked(
        b"GET /a?b HTTP/1.1\r\nHost: App.example.com:8080\r\nX-Forwarded-For: 10.9.9.9\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX_Forwarded_Host: evil\r\n"
        b"X-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nProxy: http://evil\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Accept: */*\r\nX_Own: 1\r\n\r\n"
    )
    assert headers.to_task(request) == (
        b"GET /a?b HTTP/1.1\r\nhost: App.example.com:8080\r\nAccept: */*\r\nX_Own: 1\r\n"
        b"x-forwarded-for: 10.9.9.9, 192.0.2.7\r\nx-forwarded-proto: http\r\n"
        b"x-forwarded-host: App.example.com:8080\r\nx-forwarded-port: 80\r\n\r\n"
    )


async def test_a_target_with_a_host_counts_more_than_the_header() -> None:
    request = asked(b"GET http://app.example.com/x HTTP/1.1\r\nHost: evil\r\n\r\n")
    assert (request.host, request.target) == ("app.example.com", "/x")


async def test_hop_by_hop_headers_of_an_answer_stay_here() -> None:
    events = Reading(requests=False).feed(
        b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
        b"Transfer-Encoding: chunked\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n0\r\n\r\n"
    )
    assert isinstance(events[0], Answered)
    assert headers.to_client(events[0].headers) == [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]


async def test_headers_that_a_server_may_take_for_ours_are_not_passed_on() -> None:
    request = asked(b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\n\r\n")
    assert b"_" not in headers.to_task(request)


def test_a_request_of_http2_becomes_one_of_http1() -> None:
    fields = (
        (b":method", b"POST"), (b":path", b"/x"), (b":scheme", b"https"), (b":authority", b"app.example.com"),
        (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"accept", b"*/*"),
    )  # fmt: skip
    request = http2(fields, LINE, ended=False)
    assert headers.to_task(request).split(b"x-forwarded-for")[0] == (
        b"POST /x HTTP/1.1\r\nhost: app.example.com\r\naccept: */*\r\ncookie: a=1; b=2\r\n"
        b"transfer-encoding: chunked\r\n"
    )


@pytest.mark.parametrize(
    "extra",
    [
        (b"a", b"b\r\nhost: evil"),
        (b"a", b"b\nc"),
        (b"a b", b"c"),
        (b"a:b", b"c"),
        (b"content-length", b"1, 1"),
        (b"host", b"evil"),
        (b":method", b"GET /x HTTP/1.1\r\nA: b"),
        (b":path", b"/x HTTP/1.1\r\na: b"),
        (b":path", b"x"),
        (b":authority", b"a\r\nb"),
    ],
)
def test_a_request_of_http2_that_http1_would_read_otherwise_is_refused(extra: tuple[bytes, bytes]) -> None:
    fields = ((b":method", b"GET"), (b":path", b"/"), (b":authority", b"x"), (b"host", b"x"))
    with pytest.raises(Bad):
        http2((*fields, extra), LINE, ended=True)
