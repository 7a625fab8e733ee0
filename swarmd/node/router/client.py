"""What an exchange knows of the client it serves, whatever version of HTTP that speaks, and logs of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from swarmd.node.router.core.request import Request
from swarmd.node.router.talk import Talk

if TYPE_CHECKING:
    import asyncio


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One request in the access log.  ``path`` is without the query, which may hold secrets."""

    client: str
    method: str
    host: str
    path: str
    version: str
    port: int
    status: int
    bytes: int
    seconds: float
    service: str = ""
    task: str = ""


class Client(Protocol):
    """Where a request came from, whatever version of HTTP it speaks."""

    @property
    def request(self) -> Request: ...

    async def read(self) -> bytes:
        """A piece of the body, empty at its end.  Raises Bad, Lost, Slow."""
        ...

    def body_is_here(self) -> bool:
        """Whether reading it will not have to wait."""
        ...

    async def begin(
        self, status: int, reason: str, fields: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        """The head of the answer; ``length`` None: its end will tell."""
        ...

    async def send(self, data: bytes) -> None:
        """A piece of the answer; an empty one sends what was begun.  Raises Lost."""
        ...

    def complete(self) -> None:
        """The answer is complete."""
        ...

    def abort(self) -> None:
        """The answer cannot be completed: the client must see that."""
        ...

    def upgraded(self) -> Talk:
        """The connection itself, once both ends have agreed on another protocol."""
        ...


Serve = Callable[[Client], Awaitable[None]]
Launch = Callable[[str, Coroutine[Any, Any, None]], "asyncio.Task[Any]"]
"""Runs work that ends with the router."""
