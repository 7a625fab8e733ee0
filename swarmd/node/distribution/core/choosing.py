"""Decide which node to ask for the next range of a blob.  Pure: randomness and ``now`` are handed in.

First one that serves us already, which holds a place for us; then one that has no stream of ours, managers
last, chance among equals.
One that is busy rests for moments, one that fails for longer each time; after some failures it is left out.
After each busy answer nobody is asked for a while, longer each time, so that a thousand nodes that wait ask a
thousand times in a second, not more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

SOURCES = 4
"""Nodes that one blob is fetched from at once."""

STREAMS = 2
"""Ranges that are asked of one node at once: the next is on its way while the last one ends."""

KNOWN = 16
"""Nodes that are remembered; the busiest are forgotten for those just heard of."""

FAILURES = 4
"""In a row, after which a node is left out."""

_BUSY, _MOST_BUSY = 0.05, 1.0
_FAILED, _MOST_FAILED = 0.3, 5.0


class Provider(msgspec.Struct, frozen=True):
    """A node that may have the blob."""

    node_id: str
    address: str
    manager: bool = False


class _State:
    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.streams = 0
        self.serves = False
        self.busy = 0
        self.failures = 0
        self.rests_until = 0.0


class Chooser:
    """Those who may have one blob, and how they did.  ``own``: never asked."""

    def __init__(self, own: str, fraction: Callable[[], float]) -> None:
        self._own = own
        self._fraction = fraction
        self._known: dict[str, _State] = {}
        self._gone: set[str] = set()
        self._busy_answers = 0
        self._rests_until = 0.0

    def learn(self, providers: Iterable[Provider], *, again: bool = False) -> bool:
        """Whether any of them is new.  ``again``: those that were left out get another chance."""
        news = False
        for provider in providers:
            node_id = provider.node_id
            if node_id == self._own or node_id in self._known or (node_id in self._gone and not again):
                continue
            self._gone.discard(node_id)
            self._known[node_id] = _State(provider)
            news = True
        if news:
            self._rests_until = 0.0
            self._forget_the_busiest()
        return news

    def take(self, now: float) -> Provider | None:
        """Whom to ask next, until :meth:`gave`, :meth:`was_busy`, :meth:`failed` or :meth:`lacks`."""
        pause = now < self._rests_until
        used = sum(1 for state in self._known.values() if state.streams)
        free = [
            state
            for state in self._known.values()
            if state.rests_until <= now
            and state.streams < STREAMS
            and (state.streams or used < SOURCES)
            and (state.serves or not (pause or state.streams))
        ]
        if not free:
            return None
        best = min(
            free,
            key=lambda one: (not one.serves, one.provider.manager, one.streams, self._fraction()),
        )
        best.streams += 1
        return best.provider

    def gave(self, node_id: str) -> None:
        """It sent the whole range."""
        state = self._ended(node_id)
        if state is not None:
            state.serves = True
            state.busy = state.failures = 0
            self._busy_answers = 0

    def was_busy(self, node_id: str, now: float) -> None:
        """It serves enough others."""
        state = self._ended(node_id)
        if state is not None:
            state.serves = False
            state.busy += 1
            state.rests_until = now + self._rest(_BUSY, _MOST_BUSY, state.busy)
            self._busy_answers += 1
            self._rests_until = now + self._rest(_BUSY / 2, _MOST_BUSY, self._busy_answers)

    def failed(self, node_id: str, now: float) -> None:
        """It broke off, or could not be reached."""
        state = self._ended(node_id)
        if state is None:
            return
        state.serves = False
        state.failures += 1
        state.rests_until = now + self._rest(_FAILED, _MOST_FAILED, state.failures)
        if state.failures >= FAILURES:
            self.lacks(node_id)

    def lacks(self, node_id: str) -> None:
        """It does not have the blob, or what it has is something else."""
        self._known.pop(node_id, None)
        self._gone.add(node_id)

    def wait(self, now: float) -> float | None:
        """Seconds until somebody may be asked again; None when nobody is left."""
        if not self._known:
            return None
        resting = [state.rests_until - now for state in self._known.values() if not state.streams]
        return max(0.0, min(resting, default=0.0), self._rests_until - now)

    @property
    def streams(self) -> int:
        """Ranges under way."""
        return sum(state.streams for state in self._known.values())

    def _forget_the_busiest(self) -> None:
        idle = sorted((one for one in self._known.values() if not one.streams), key=lambda one: -one.busy)
        for state in idle[: max(0, len(self._known) - KNOWN)]:
            del self._known[state.provider.node_id]

    def _ended(self, node_id: str) -> _State | None:
        state = self._known.get(node_id)
        if state is not None:
            state.streams = max(0, state.streams - 1)
        return state

    def _rest(self, first: float, most: float, times: int) -> float:
        """Longer each time, and never the same for two nodes that were sent away together."""
        return min(first * 2.0 ** (times - 1), most) * (0.5 + self._fraction())
