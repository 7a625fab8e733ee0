"""One request and its answer: a route, a task, the way there and back.

request ──► route ──► task (another one, while nothing was sent) ──► head and body go there
                                                        answer ◄──── head and body come back
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from swarmd.kit.supervise import Nursery
from swarmd.node.network.port import Backend, HttpRoute
from swarmd.node.router.client import Client, Line
from swarmd.node.router.core import headers, pages
from swarmd.node.router.core.choice import choose, key_of
from swarmd.node.router.core.match import Table, host_name, plain_path
from swarmd.node.router.core.request import Bad, Request
from swarmd.node.router.counting import Counting
from swarmd.node.router.http import END, Answered
from swarmd.node.router.talk import NEVER, Lost, Slow
from swarmd.node.router.tunnel import tunnel
from swarmd.node.router.upstream import Pool, Upstream

ANSWER_SECONDS = 300.0
"""In which an answer must begin once the request is out."""
_TRIES = 3


class Parts(msgspec.Struct, frozen=True):
    """What exchanges share.  ``log``: None, or where lines go."""

    pool: Pool
    nursery: Nursery
    now: Callable[[], float]
    log: Callable[[Line], None] | None = None
    counting: Counting = msgspec.field(default_factory=Counting)


class _Refused(Exception):
    """The client gets a page."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Exchange:
    """One of them; :meth:`run` does it."""

    def __init__(self, parts: Parts, table: Table, client: Client, turn: int) -> None:
        self._parts = parts
        self._table = table
        self._client = client
        self._turn = turn
        self._began = parts.now()
        self._route: HttpRoute | None = None
        self._backend: Backend | None = None
        self._status = 0
        self._sent = 0
        self._pumping: asyncio.Task[object] | None = None

    async def run(self) -> None:
        """Never raises but for a cancellation.  Whatever happens the client has an answer, or sees that it
        was cut off."""
        try:
            await self._answer()
        except _Refused as refused:
            await self._page(refused.status, refused.text)
        except (Bad, Slow) as error:
            if self._status:
                self._client.abort()
            else:
                bad = error if isinstance(error, Bad) else Bad(408, "The request did not come in time.")
                await self._page(bad.status, bad.text)
        except Lost:
            self._client.abort()
        finally:
            if self._pumping is not None:
                self._pumping.cancel()
            self._record()

    async def _answer(self) -> None:
        request = self._client.request
        self._route = self._table.find(host_name(request.host), plain_path(request.target))
        if self._route is None:
            raise _Refused(404, pages.NO_ROUTE)
        if not self._route.backends:
            raise _Refused(503, pages.NO_TASK)
        tried: set[tuple[str, int]] = set()
        fresh = False
        for last in (False,) * (_TRIES - 1) + (True,):
            upstream = await self._reach(tried, fresh=fresh)
            self._parts.pool.busy[upstream.key] += 1
            try:
                answered = await self._ask(upstream, request)
                if answered is not None:
                    await self._pass_back(upstream, answered, request)
                    return
            finally:
                self._parts.pool.busy[upstream.key] -= 1
                if not upstream.is_idle:
                    upstream.abort()
            if last or not request.is_safe_again:
                break
            # A connection that was kept may have been closed by the task in the same moment; a new one tells.
            if upstream.used:
                fresh = True
            else:
                tried.add(upstream.key)
        raise _Refused(502, pages.BROKEN)

    async def _reach(self, tried: set[tuple[str, int]], *, fresh: bool) -> Upstream:
        """A connection to some task.  Nothing was sent yet, so all may be tried."""
        assert self._route is not None
        pool = self._parts.pool
        while True:
            shunned = pool.shunned() if len(self._route.backends) > 1 else ()
            backend = choose(self._route.backends, self._turn, busy=pool.busy, tried=tried, shunned=shunned)
            if backend is None:
                raise _Refused(502, pages.NOT_REACHED)
            self._backend, key = backend, key_of(backend)
            try:
                if fresh:
                    return await pool.connect(key)
                return await pool.take(key, repeatable=self._client.request.is_safe_again)
            except (OSError, TimeoutError):
                tried.add(key)
                pool.shun(key)

    async def _ask(self, upstream: Upstream, request: Request) -> Answered | None:
        """Send the request; the head of the answer, None when the connection broke before it came."""
        upstream.begin(request.method)
        head = headers.to_task(request)
        try:
            upstream.write(head)
            if request.length and not self._client.body_is_here():
                self._pumping = self._parts.nursery.start("router request body", self._pump(upstream))
            else:
                await self._send_body(upstream)
            while True:
                event = await upstream.next()
                if event is None:
                    return None
                if isinstance(event, Answered) and (event.status >= 200 or event.status == 101):
                    upstream.deadline = NEVER
                    return event
        except Lost:
            return None
        except Slow:
            raise _Refused(504, pages.TOO_SLOW) from None
        except Bad as error:
            # From the client, through the pump, or from a task that speaks something else.
            if upstream.client_failed:
                raise
            raise _Refused(502, pages.NOT_HTTP) from error

    async def _pump(self, upstream: Upstream) -> None:
        try:
            await self._send_body(upstream)
        except Lost:
            pass  # it answers without having heard all, or has gone: whoever waits for the answer sees it
        except (Bad, Slow) as error:
            upstream.client_failed = True
            upstream.fail(
                error if isinstance(error, Bad) else Bad(408, "The request's body did not come in time.")
            )

    async def _send_body(self, upstream: Upstream) -> None:
        length = self._client.request.length
        while length and (data := await self._client.read()):
            upstream.write(headers.chunk(data) if length < 0 else data)
            await upstream.drain()
        if length < 0:
            upstream.write(headers.LAST_CHUNK)
        upstream.said_all = True
        upstream.deadline = self._parts.now() + ANSWER_SECONDS

    async def _pass_back(self, upstream: Upstream, answered: Answered, request: Request) -> None:
        self._status = answered.status
        if answered.status == 101:
            await self._tunnel(upstream, answered, request)
            return
        fields = headers.to_client(answered.headers)
        said = headers.said_length(answered.headers)
        length = headers.length_of(
            answered.headers, answered.status, request.method, chunked=answered.chunked
        )
        if said is not None and not answered.chunked and answered.status != 204:
            fields.append((b"content-length", said))
        await self._client.begin(answered.status, answered.reason, fields, length)
        if upstream.is_silent:
            await self._client.send(b"")
        try:
            while (event := await upstream.next()) is not END:
                if event is None:
                    raise Lost
                assert isinstance(event, bytes)
                if length == 0:
                    continue  # a body where there can be none
                self._sent += len(event)
                await self._client.send(event)
        except (Bad, Slow) as error:
            raise Lost from error
        self._client.complete()
        if answered.keep and upstream.said_all:
            self._parts.pool.give(upstream)

    async def _tunnel(self, upstream: Upstream, answered: Answered, request: Request) -> None:
        if not request.upgrade:
            self._status = 0
            raise _Refused(502, pages.NOT_HTTP)
        fields = headers.to_client(answered.headers)
        client = self._client.upgraded()
        client.write(
            headers.head(
                101, answered.reason, [*fields, (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
            )
        )
        self._sent = await tunnel(client, upstream)

    async def _page(self, status: int, text: str) -> None:
        self._status = status
        fields, body = pages.page(status, text)
        try:
            is_head = self._client.request.method == "HEAD"
            await self._client.begin(
                status, pages.REASONS.get(status, "Error"), fields, 0 if is_head else len(body)
            )
            if not is_head:
                self._sent = len(body)
                await self._client.send(body)
            self._client.complete()
        except Lost:
            self._client.abort()

    def _record(self) -> None:
        request, seconds = self._client.request, self._parts.now() - self._began
        service = self._route.service_name if self._route else ""
        self._parts.counting.note(service, request.port, self._status, self._sent, seconds)
        if self._parts.log is None:
            return
        self._parts.log(
            Line(
                client=request.client,
                method=request.method,
                host=request.host,
                path=request.target.partition("?")[0],
                version=request.version,
                port=request.port,
                status=self._status,
                bytes=self._sent,
                seconds=seconds,
                service=service,
                task=self._backend.task_id if self._backend else "",
            )
        )
