"""Connections to tasks: kept while idle, closed when their task leaves, counted for whoever balances."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from swarmd.kit.supervise import Report
from swarmd.node.router.core.choice import Key
from swarmd.node.router.http import Reading
from swarmd.node.router.talk import NEVER, Talk, expire

CONNECT_SECONDS = 2.0
SHUN_SECONDS = 5.0
_IDLE_SECONDS, _FRESH_SECONDS = 4.0, 1.0
"""Servers close idle connections after two seconds (gunicorn) or five (Node, uvicorn): a request that cannot
be repeated takes no connection that is about to end."""
_MOST_IDLE = 64

Now = Callable[[], float]


class Upstream(Talk):
    """A connection to one task."""

    def __init__(self, key: Key, gone: Callable[[Talk], None]) -> None:
        super().__init__(Reading(requests=False), gone)
        self.key = key
        self.used = False
        """Not for the first time: the task may be closing it just now."""
        self.is_idle = False
        """Given back to the pool."""
        self.said_all = False
        """The request is out, with its body."""
        self.client_failed = False
        """What :meth:`next` raises is the client's fault."""
        self.idle_since = 0.0
        self._bodies = True

    def begin(self, method: str) -> None:
        """The next answer is to this method."""
        bodies = method != "HEAD"
        if not (self._bodies and bodies):  # after an answer to HEAD the parser waits for a body
            self.reading = Reading(requests=False, bodies=bodies)
        self._bodies, self.is_idle, self.said_all = bodies, False, False


class Pool:
    """All connections to tasks of one router."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._idle: dict[Key, list[Upstream]] = {}
        self._open: set[Talk] = set()
        self._wanted: frozenset[Key] = frozenset()
        self._shunned: dict[Key, float] = {}
        self.busy: Counter[Key] = Counter()
        """Requests under way by task."""

    def keep_only(self, keys: Iterable[Key]) -> None:
        """Tasks that are not among ``keys`` get no more requests; those under way go on."""
        self._wanted = frozenset(keys)
        for key in [key for key in self._idle if key not in self._wanted]:
            for one in self._idle.pop(key):
                one.close()

    def shunned(self) -> set[Key]:
        """Tasks that could not be reached a moment ago."""
        now = self._now()
        self._shunned = {key: until for key, until in self._shunned.items() if until > now}
        return set(self._shunned)

    def shun(self, key: Key) -> None:
        self._shunned[key] = self._now() + SHUN_SECONDS

    async def take(self, key: Key, *, repeatable: bool) -> Upstream:
        """A connection to a task, an idle one if there is.  Raises OSError, TimeoutError."""
        longest = _IDLE_SECONDS if repeatable else _FRESH_SECONDS
        idle = self._idle.get(key, [])
        while idle:
            one = idle.pop()
            if one.is_quiet and self._now() - one.idle_since <= longest:
                one.used = True
                return one
            one.close()
        return await self.connect(key)

    async def connect(self, key: Key) -> Upstream:
        """A new connection.  Raises OSError, TimeoutError."""
        address, port = key
        async with asyncio.timeout(CONNECT_SECONDS):
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: Upstream(key, self._open.discard), address, port
            )
        if made.transport is not None:  # else it has been reset since, and will not be heard of again
            self._open.add(made)
        return made

    def give(self, one: Upstream) -> None:
        """It has been of use, and may be again."""
        one.deadline = NEVER
        kept = self._idle.setdefault(one.key, [])
        if one.key in self._wanted and one.is_quiet and len(kept) < _MOST_IDLE:
            one.idle_since, one.is_idle = self._now(), True
            kept.append(one)
        else:
            one.close()

    def sweep(self, report: Report) -> None:
        """To be called every second: ends what waited too long."""
        now = self._now()
        expire(self._open, now, report)
        for key, idle in list(self._idle.items()):
            stale = [one for one in idle if not one.is_quiet or now - one.idle_since > _IDLE_SECONDS]
            for one in stale:
                idle.remove(one)
                one.close()
            if not idle:
                del self._idle[key]

    def close(self) -> None:
        for one in list(self._open):
            one.abort()
        self._idle.clear()
