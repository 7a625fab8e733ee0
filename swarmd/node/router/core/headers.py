"""Decide which headers go on: what is between two neighbours stays there, and who asked is said anew.

``X-Forwarded-For`` is what the client said and its address behind it; ``-Proto``, ``-Host`` and ``-Port`` are
said by this node alone.  ``Forwarded`` and ``X-Real-IP`` of a client are dropped: nobody has checked them.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.node.router.core.request import Headers, Request

_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
        b"upgrade",        b"proxy-authenticate", b"proxy-authorization", b"http2-settings",
    }
)  # fmt: skip
_OURS = frozenset(
    {
        b"host", b"content-length", b"expect", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
        b"x-forwarded-port", b"x-real-ip", b"forwarded", b"proxy",
    }
)  # fmt: skip
_NOT_UP = _HOP | _OURS
_NO_BODY = (204, 304)
_MOST_NAMED = 32


def to_task(request: Request) -> bytes:
    """The head of the request as the task gets it, in HTTP/1.1."""
    named = _named(request.headers) if request.version != "2" else frozenset()
    lines = [f"{request.method} {request.target} HTTP/1.1\r\nhost: {request.host}\r\n".encode("latin-1")]
    clients: list[bytes] = []
    for name, value in request.headers:
        lower = name.lower()
        if lower == b"x-forwarded-for":
            clients.append(value)
        elif lower not in named and lower.replace(b"_", b"-") not in _NOT_UP:
            lines.append(b"%b: %b\r\n" % (name, value))
    clients.append(request.client.encode())
    if request.length > 0 or (request.length == 0 and request.method in ("POST", "PUT", "PATCH")):
        lines.append(b"content-length: %d\r\n" % request.length)
    elif request.length < 0:
        lines.append(b"transfer-encoding: chunked\r\n")
    if request.upgrade:
        lines.append(b"connection: Upgrade\r\nupgrade: websocket\r\n")
    lines.append(
        b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n"
        b"x-forwarded-host: %b\r\nx-forwarded-port: %d\r\n\r\n"
        % (b", ".join(clients), request.scheme.encode(), request.host.encode(), request.port)
    )
    return b"".join(lines)


def to_client(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers of an answer without those that were for this node; the length among them."""
    named = _named(headers)
    return [
        (name, value)
        for name, value in headers
        if (lower := name.lower()) not in _HOP and lower not in named and lower != b"content-length"
    ]


def length_of(headers: Headers, status: int, method: str, *, chunked: bool) -> int | None:
    """Bytes of an answer's body; 0 when it has none, None when only its end will tell."""
    if method == "HEAD" or status in _NO_BODY:
        return 0
    if chunked:
        return None
    said = said_length(headers)
    return None if said is None else int(said)


def said_length(headers: Headers) -> bytes | None:
    """``Content-Length`` as it was said."""
    return next((value for name, value in headers if name.lower() == b"content-length"), None)


def head(status: int, reason: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of an answer in HTTP/1.1."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason.encode("latin-1", "replace"))]
    lines += [b"%b: %b\r\n" % pair for pair in headers]
    lines.append(b"\r\n")
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    """One piece of a body that ends by itself."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def _named(headers: Headers) -> frozenset[bytes]:
    """What the ``Connection`` header names: it is for the neighbour only."""
    said = [value for name, value in headers if name.lower() == b"connection"]
    if not said or said == [b"keep-alive"] or said == [b"close"]:
        return frozenset()
    return frozenset(one.strip().lower() for one in b",".join(said).split(b",")[:_MOST_NAMED])
