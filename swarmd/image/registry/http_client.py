"""HTTP requests to registries.  The one door to aiohttp's client: nothing is followed or unpacked."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp
import msgspec
from yarl import URL

from swarmd import __version__
from swarmd.image.registry.core.names import Way
from swarmd.image.registry.core.proxy import proxy_for
from swarmd.model.errors import Invalid, Unavailable

CONNECT = 10.0
"""Seconds to reach a host."""

SILENCE = 60.0
"""Seconds in which the next bytes of an answer must come."""

CHUNK = 1 << 18
_HEADERS = {"User-Agent": f"swarmd/{__version__}", "Accept-Encoding": "identity"}

Pieces = Callable[[], AsyncIterator[bytes]]
"""A body, begun anew for each try."""

Trust = Callable[[str, Way], ssl.SSLContext]
"""How the certificate of a host (``host:port``) is looked at.  Raises Invalid for unusable files."""


class Unreached(Unavailable):
    """The host did not answer, or broke off."""


class Unreachable(Unreached):
    """There was no connection at all."""


class Request(msgspec.Struct, frozen=True):
    """``host``: which the settings know (``host:port``).  ``body``: bytes, or pieces of ``length`` bytes."""

    method: str
    url: str
    host: str
    way: Way
    headers: Mapping[str, str] = {}
    body: bytes | Pieces | None = None
    length: int = 0


class Reply:
    """An answer from ``url`` whose body has not been read.  Whoever holds it releases it."""

    def __init__(self, response: aiohttp.ClientResponse, url: str) -> None:
        self._response = response
        self.url = url

    @property
    def status(self) -> int:
        return self._response.status

    def header(self, name: str) -> str:
        """The first of that name; empty when there is none."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        return self._response.headers.getall(name, [])

    async def read(self, limit: int) -> bytes:
        """The whole body.  Raises Invalid when it has more than ``limit`` bytes, Unreached."""
        parts: list[bytes] = []
        size = 0
        async for piece in self.pieces():
            size += len(piece)
            if size > limit:
                raise Invalid(
                    f"{self._response.url.host} answers with more than the {limit} bytes allowed here"
                )
            parts.append(piece)
        return b"".join(parts)

    async def start(self, limit: int) -> bytes:
        """What of the body fits in ``limit`` bytes, of an error that is to be shown."""
        with contextlib.suppress(Unreached, Invalid):
            return await self.read(limit)
        return b""

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes.  Raises Unreached when it breaks off."""
        try:
            async for piece in self._response.content.iter_chunked(CHUNK):
                yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreached(self._response.url.host or "", error) from error

    def release(self) -> None:
        """The connection is used again if the body was read, and closed otherwise."""
        self._response.release() if self._response.content.at_eof() else self._response.close()


class HttpClient:
    """Connections that are kept for a while.  :meth:`close` ends them."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Request) -> Reply:
        """Raises Unreached, and Invalid for an address that is none."""
        try:
            url = URL(request.url, encoded=True)
        except ValueError as error:
            raise Invalid(f"the registry names an address that is none: {request.url[:200]}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise Invalid(f"the registry names an address that is none: {request.url[:200]}")
        headers = {**_HEADERS, **request.headers}
        body = request.body
        if callable(body):
            headers["Content-Length"] = str(request.length)
        try:
            response = await self._open().request(
                request.method,
                url,
                headers=headers,
                data=body() if callable(body) else body,
                allow_redirects=False,
                proxy=proxy_for(url.scheme, url.host, url.port or 0, os.environ) or None,
                ssl=self._trust(request.host, request.way) if url.scheme == "https" else True,
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreached(request.host, error) from error
        return Reply(response, request.url)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=None, sock_connect=CONNECT, sock_read=SILENCE
                ),
                connector=aiohttp.TCPConnector(limit_per_host=16, keepalive_timeout=15.0),
            )
        return self._session


def _unreached(host: str, error: Exception) -> Unreached:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return Unreachable(f"{host} cannot be trusted: {_tls(error)}")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Unreachable(f"{host} cannot be reached: no answer in {CONNECT:.0f} s")
    if isinstance(error, TimeoutError):
        return Unreached(f"{host} does not answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unreachable(f"{host} cannot be reached: {_reason(error.os_error)}")
    return Unreached(f"the connection to {host} broke: {str(error) or type(error).__name__}")


def _reason(error: OSError) -> str:
    """In a word; of a name with several addresses the first that did not answer speaks for all."""
    number = re.search(r"\[Errno (\d+)\]", str(error))
    return error.strerror or (os.strerror(int(number[1])) if number else str(error))


def _tls(error: aiohttp.ClientConnectorError) -> str:
    cause = getattr(error, "certificate_error", None) or error.os_error
    return str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or cause)
