"""One registry as one operation sees it: authorization, redirects and patience, request by request.

send ──► 401 ──► token or password ──► again      429, 5xx, broken ──► later, again
     ──► 30x ──► there, as a stranger             anything else ──► the caller
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from urllib.parse import urljoin, urlsplit

import msgspec

from swarmd.image.registry.core import auth, headers
from swarmd.image.registry.core.auth import Credential, TokenRequest, Tokens
from swarmd.image.registry.core.challenge import Challenge, challenges, chosen
from swarmd.image.registry.core.errors import MAX_ERROR, PASSING, failure
from swarmd.image.registry.core.names import Place, Way, account_of, is_insecure
from swarmd.image.registry.http_client import HttpClient, Pieces, Reply, Request, Unreachable, Unreached
from swarmd.kit.backoff import Backoff
from swarmd.kit.clock import Clock
from swarmd.model.errors import Denied, Invalid, SwarmError

TRIES = 5
MOST_WAIT = 60.0
"""Seconds that a registry may ask for before another try; longer is for the user to wait."""

_HOPS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_FIRST, _CAP = 0.5, 10.0

WhoAsks = Callable[[str], Awaitable[Credential | None]]
"""The credential for a host as names have it (``docker.io``), None for a stranger."""


class Surroundings(msgspec.Struct, frozen=True):
    """What all operations share.  ``ways``: which way a host was reached last."""

    http: HttpClient
    clock: Clock
    fraction: Callable[[], float]
    insecure: tuple[str, ...] = ()
    ways: dict[str, Way] = {}

    def patience(self) -> Backoff:
        """For tries that fail."""
        return Backoff(first=_FIRST, cap=_CAP, fraction=self.fraction)


class Remote:
    """``place`` for one operation.  ``warned`` is told each sentence of the registry's for users once."""

    def __init__(
        self,
        place: Place,
        around: Surroundings,
        who: WhoAsks,
        warned: Callable[[str], None] = lambda text: None,
        *,
        offline: bool = False,
    ) -> None:
        """``offline``: ask token servers also for a token that lasts, ``refresh``."""
        self.place = place
        self._around = around
        self._who = who
        self._warned = warned
        self._told: set[str] = set()
        self._challenge: Challenge | None = None
        self._credential: Credential | None = None
        self._asked_who = False
        self._tokens = Tokens()
        self._offline = offline
        self.quota = ""
        self.refresh = ""

    async def send(
        self,
        method: str,
        path: str,
        *,
        scopes: Iterable[str] = (),
        more: Mapping[str, str] | None = None,
        body: bytes | Pieces | None = None,
        length: int = 0,
        again: bool = True,
    ) -> Reply:
        """The answer to ``path`` (below the repository, or a whole address), whatever it says but 401.

        ``scopes``: what is going to be needed.  ``again``: tried again for a while.
        Raises Denied, Unreached.
        """
        patience = self._around.patience()
        for left in reversed(range(TRIES if again else 1)):
            wait = 0.0
            try:
                reply = await self._reached(method, path, frozenset(scopes), dict(more or {}), body, length)
            except Unreachable:
                raise  # whoever waits for that host does so with more patience than this
            except Unreached:
                if not left:
                    raise
            else:
                wait = self._wait(reply)
                if reply.status not in PASSING or not left or wait > MOST_WAIT:
                    return reply
                reply.release()
            await self._around.clock.sleep(max(wait, patience.next()))
        raise AssertionError  # the last try returns or raises

    async def error(self, reply: Reply, about: str = "") -> SwarmError:
        """What a refusal means; the answer is released."""
        body = await reply.start(MAX_ERROR)
        reply.release()
        return failure(reply.status, body, about=about, more=self.more(reply))

    def more(self, reply: Reply) -> str:
        """A further word on a refusal: the allowance, and when it may work again."""
        if reply.status != 429:
            return ""
        wait = self._wait(reply)
        return "; ".join(part for part in (self.quota, f"try again in {wait:.0f} s" if wait else "") if part)

    def _wait(self, reply: Reply) -> float:
        return headers.seconds_until(reply.header("Retry-After"), self._around.clock.now()) or 0.0

    # -- the way there ---------------------------------------------------------------------------

    async def _reached(
        self,
        method: str,
        path: str,
        scopes: frozenset[str],
        more: dict[str, str],
        body: bytes | Pieces | None,
        length: int,
    ) -> Reply:
        if "://" in path:
            way = self._way_of(path)
            return await self._let_in(Request(method, path, self.place.host, way, more, body, length), scopes)
        known = self._around.ways.get(self.place.host)
        ways = self.place.ways if known not in self.place.ways or known is None else (known,)
        for position, way in enumerate(ways, 1):
            request = Request(method, self.place.url(way, path), self.place.host, way, more, body, length)
            try:
                reply = await self._let_in(request, scopes)
            except Unreached:
                self._around.ways.pop(self.place.host, None)
                if position == len(ways):
                    raise
            else:
                self._around.ways[self.place.host] = way
                return reply
        raise AssertionError  # the last way returns or raises

    def _way_of(self, url: str) -> Way:
        scheme = urlsplit(url).scheme
        return next((way for way in self.place.ways if way.scheme == scheme), Way(scheme))

    # -- who asks --------------------------------------------------------------------------------

    async def _let_in(self, request: Request, scopes: frozenset[str]) -> Reply:
        """The answer to one that is asked as somebody, as soon as the registry wants to know who."""
        refused = ""
        for _ in range(3):
            shown = await self._authorization(request, scopes)
            reply = await self._followed(request, shown)
            self._note(reply)
            if reply.status != 401 or _host(reply.url) != _host(request.url):
                return reply
            found = chosen(challenges(reply.headers("WWW-Authenticate")))
            if found is None or (shown and shown == refused):
                raise await self.error(reply)
            if shown and found.scheme == "basic":
                raise await self.error(reply)
            if shown:
                self._tokens.drop(shown.removeprefix("Bearer "))
            reply.release()
            refused, self._challenge = shown, found
            scopes = auth.united((*scopes, *found.scopes))
            if found.scheme == "basic" and not await self._credential_of():
                raise Denied("unauthorized: authentication required")
        raise Denied("unauthorized: the registry takes no token that its own server gives")

    async def _authorization(self, request: Request, scopes: frozenset[str]) -> str:
        challenge = self._challenge
        if challenge is None or _host(request.url) != self.place.host.lower():
            return ""
        if challenge.scheme == "basic":
            who = await self._credential_of()
            return who.basic() if who is not None else ""
        token = self._tokens.find(scopes, self._around.clock.monotonic())
        if token is None:
            token = await self._token(challenge, scopes, request.way)
            self._tokens.add(token)
        return f"Bearer {token.text}"

    async def _credential_of(self) -> Credential | None:
        if not self._asked_who:
            self._credential, self._asked_who = await self._who(account_of(self.place.host)), True
        return self._credential

    async def _token(self, challenge: Challenge, scopes: frozenset[str], way: Way) -> auth.Token:
        who = await self._credential_of()
        request = auth.token_request(challenge, scopes, who, offline=self._offline)
        token = await self._fetch_token(request, scopes, way)
        self.refresh = token.refresh
        return token

    async def _fetch_token(self, request: TokenRequest, scopes: frozenset[str], way: Way) -> auth.Token:
        parts = urlsplit(request.url)
        lax = is_insecure(parts.netloc, self._around.insecure)
        auth.may_tell(request, secure=way.scheme == "https" and way.verify, insecure_host=lax)
        more = {"Authorization": request.authorization} if request.authorization else {}
        method = "GET"
        if request.body is not None:
            method, more = "POST", {"Content-Type": "application/x-www-form-urlencoded"}
        asked = Request(
            method, request.url, parts.netloc, Way(parts.scheme, verify=not lax), more, request.body
        )
        reply = await self._around.http.send(asked)
        try:
            if reply.status != 200:
                raise await self.error(reply)
            raw = await reply.read(auth.MAX_TOKEN)
        finally:
            reply.release()
        clock = self._around.clock
        return auth.read_token(raw, scopes, now=clock.now(), monotonic=clock.monotonic())

    # -- redirects -------------------------------------------------------------------------------

    async def _followed(self, request: Request, shown: str) -> Reply:
        """Who asks is told to the host that wants to know it and to no other."""
        first = urlsplit(request.url)
        url = request.url
        for _ in range(_HOPS):
            parts = urlsplit(url)
            same = (parts.scheme, parts.netloc) == (first.scheme, first.netloc)
            more = {**request.headers, "Authorization": shown} if shown and same else request.headers
            way = request.way if same else Way(parts.scheme, verify=self._must_verify(parts.netloc))
            host = request.host if same else parts.netloc
            asked = msgspec.structs.replace(request, url=url, headers=more, way=way, host=host)
            reply = await self._around.http.send(asked)
            target = reply.header("Location")
            if reply.status not in _REDIRECTS or not target or request.method not in ("GET", "HEAD"):
                return reply
            reply.release()
            fresh = urljoin(url, target)
            if parts.scheme == "https" and request.way.verify and urlsplit(fresh).scheme != "https":
                raise Invalid(f"{parts.netloc} redirects to {urlsplit(fresh).netloc} without TLS: refused")
            url = fresh
        raise Invalid(f"{first.netloc} redirects again and again: given up after {_HOPS} times")

    def _must_verify(self, host: str) -> bool:
        return not is_insecure(host, self._around.insecure)

    def _note(self, reply: Reply) -> None:
        for text in headers.warnings(reply.headers("Warning")):
            if text not in self._told:
                self._told.add(text)
                self._warned(text)
        limit = reply.header("ratelimit-limit")
        if limit:
            self.quota = headers.quota(limit, reply.header("ratelimit-remaining"))


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()
