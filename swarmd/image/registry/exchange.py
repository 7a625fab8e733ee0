"""A request to the registry and its answer, without the HTTP library that carries them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from swarmd.image.registry.core.ranges import Span
from swarmd.image.registry.core.refusals import Headers

Body = Callable[[], AsyncIterator[bytes]]


async def nothing() -> AsyncIterator[bytes]:
    """The body of a request without one."""
    return
    yield b""


class Request(msgspec.Struct, frozen=True):
    """``path`` as sent, percent-encoded; ``headers`` by name in lower case; ``query`` as (name, value).

    ``length``: bytes of the body as announced, None when it is streamed.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = {}
    length: int | None = 0
    body: Body = nothing

    def first(self, name: str) -> str:
        """The first value of a query parameter; empty when it is not there."""
        return next((value for key, value in self.query if key == name), "")

    def every(self, name: str) -> tuple[str, ...]:
        """All values of a query parameter."""
        return tuple(value for key, value in self.query if key == name)

    def has(self, name: str) -> bool:
        """Whether the query parameter is there, if empty."""
        return any(key == name for key, _ in self.query)

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


class Reply(msgspec.Struct, frozen=True):
    """What is answered: ``body``, or ``part`` of ``file``.

    ``length``: what a HEAD says of the body it does not have; otherwise -1.
    """

    status: int
    headers: Headers = ()
    body: bytes = b""
    file: Path | None = None
    part: Span = Span(0, 0)
    length: int = -1


Handle = Callable[[Request], Awaitable[Reply]]
