"""Decide whether a request is one that every server understands alike, and what it asks for.

What two servers could read in two ways is refused here, not passed on: lengths said twice, hosts said twice,
codings other than chunked, targets that are no path.
"""

from __future__ import annotations

import re

import msgspec

Headers = tuple[tuple[bytes, bytes], ...]

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_TARGET = re.compile(r"/[!-\"$-~]*")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[\x00\r\n]")
_LONGEST_TARGET = 16 << 10


class Bad(Exception):
    """The request is refused with ``status``; ``text`` says why, to a person."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Request(msgspec.Struct, frozen=True):
    """One request.  ``target``: path and query as they were written.  ``length`` of its body in bytes, -1:
    unknown, it ends by itself.  ``version``: "1.0", "1.1" or "2".  ``upgrade``: the client asks for a
    WebSocket.  ``expects``: it waits for a word before it sends the body."""

    method: str
    target: str
    host: str
    headers: Headers
    length: int
    version: str
    scheme: str
    client: str
    port: int
    upgrade: bool = False
    expects: bool = False

    @property
    def is_safe_again(self) -> bool:
        """Doing it twice is the same as doing it once, and there is no body that would be needed again."""
        return self.length == 0 and self.method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


class Line(msgspec.Struct, frozen=True):
    """Where a request came in: by which scheme, from which address, to which port."""

    scheme: str
    client: str
    port: int


def http1(method: str, target: str, version: str, headers: Headers, line: Line, *, upgrade: bool) -> Request:
    """A request of HTTP/1.0 or 1.1 whose grammar was checked.  Raises Bad."""
    said: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in said and lower in (b"host", b"content-length", b"transfer-encoding"):
            raise Bad(400, f"the header {lower.decode()} is there twice")
        said[lower] = value
    if method in ("CONNECT", "TRACE"):
        raise Bad(405, f"{method} is not served here")
    host = said.get(b"host", b"")
    if not target.startswith("/"):
        target, host = _absolute(method, target, host)
    expects = said.get(b"expect", b"").lower() == b"100-continue" and version == "1.1"
    return Request(
        method, _checked(target), _host(host), headers, _length(said, version), version, line.scheme,
        line.client, line.port, upgrade, expects,
    )  # fmt: skip


def http2(headers: Headers, line: Line, *, ended: bool) -> Request:
    """A request of HTTP/2; ``ended``: it has no body.  Raises Bad."""
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    plain = [(name, value) for name, value in headers if not name.startswith(b":")]
    for name, value in plain:
        if not _NAME.fullmatch(name) or _VALUE.search(value):
            raise Bad(400, "a header has a name or value that HTTP/1.1 cannot carry")
    method = pseudo.get(b":method", b"").decode("ascii", "replace")
    if method in ("CONNECT", "TRACE") or not method.isalpha():
        raise Bad(405, "this method is not served here")
    lengths = [value for name, value in plain if name == b"content-length"]
    if len(lengths) > 1 or not all(value.isdigit() for value in lengths):
        raise Bad(400, "the header content-length is no number, or there twice")
    hosts = {value for name, value in plain if name == b"host"}
    authority = pseudo.get(b":authority") or (hosts.pop() if hosts else b"")
    if hosts - {authority}:
        raise Bad(400, "the header host is there twice")
    cookies = b"; ".join(value for name, value in plain if name == b"cookie")
    kept = [pair for pair in plain if pair[0] not in (b"host", b"cookie")]
    target = pseudo.get(b":path", b"").decode("latin-1")
    return Request(
        method, _checked("/" if target == "*" and method == "OPTIONS" else target), _host(authority),
        (*kept, (b"cookie", cookies)) if cookies else tuple(kept),
        0 if ended else int(lengths[0]) if lengths else -1, "2", line.scheme, line.client, line.port,
    )  # fmt: skip


def _absolute(method: str, target: str, host: bytes) -> tuple[str, bytes]:
    """Path and host of ``http://host/path``, or of ``OPTIONS *``."""
    if target == "*" and method == "OPTIONS":
        return "/", host
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise Bad(400, "the target of the request is no path")
    authority, slash, path = rest.partition("/")
    return slash + path or "/", authority.encode("latin-1", "replace")


def _checked(target: str) -> str:
    if len(target) > _LONGEST_TARGET:
        raise Bad(414, "the target of the request is too long")
    if not _TARGET.fullmatch(target):
        raise Bad(400, "the target of the request is no path")
    return target


def _host(host: bytes) -> str:
    if not host:
        return ""
    if not _HOST.fullmatch(host):
        raise Bad(400, "the host of the request is no host name")
    return host.decode("ascii")


def _length(said: dict[bytes, bytes], version: str) -> int:
    coding, length = said.get(b"transfer-encoding"), said.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise Bad(400, "the request has a length and is chunked")
        if version == "1.0":
            raise Bad(400, "chunked bodies begin with HTTP/1.1")
        if coding.strip().lower() != b"chunked":
            raise Bad(501, "transfer-encoding is chunked here, and nothing else")
        return -1
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 18:
        raise Bad(400, "the header content-length is no number")
    return int(length)
