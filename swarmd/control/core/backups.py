"""When the next snapshot of the swarm is due, how its file is called, and which old ones go.  Pure.

swarm-20261125T215600Z-i4711.snapshot          on schedule
before-recovery-20261125T215600Z-i4711.snapshot   right before the swarm was begun anew, or put back
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection

SCHEDULED, BEFORE_RECOVERY = "swarm", "before-recovery"
_NAME = re.compile(rf"({SCHEDULED}|{BEFORE_RECOVERY})-(\d{{8}}T\d{{6}}Z)-i(\d+)\.snapshot")
_TIME = "%Y%m%dT%H%M%SZ"


def name_of(reason: str, now: float, index: int) -> str:
    """The name of a snapshot made ``now``, seconds since 1970, after ``index`` changes."""
    at = datetime.datetime.fromtimestamp(now, tz=datetime.UTC)
    return f"{reason}-{at.strftime(_TIME)}-i{index}.snapshot"


def wait(names: Collection[str], *, now: float, interval: float) -> float:
    """Seconds until the next one is due, 0 when it is; ``interval`` in seconds.

    ``names``: the files there are.  One from the future (a clock went wrong) counts as made now.
    """
    newest = max((_made_at(name) for name in _of(SCHEDULED, names)), default=None)
    if newest is None:
        return 0.0
    return max(0.0, min(newest, now) + interval - now)


def surplus(names: Collection[str], keep: int) -> list[str]:
    """The names to remove, so that ``keep`` of each kind are left: the newest."""
    gone: list[str] = []
    for reason in (SCHEDULED, BEFORE_RECOVERY):
        ours = sorted(_of(reason, names), key=lambda name: (_made_at(name), name))
        gone += ours[: max(0, len(ours) - max(keep, 1))]
    return gone


def _of(reason: str, names: Collection[str]) -> list[str]:
    """Those of one kind; what somebody else put there is no business of ours."""
    return [name for name in names if (match := _NAME.fullmatch(name)) and match[1] == reason]


def _made_at(name: str) -> float:
    match = _NAME.fullmatch(name)
    assert match is not None
    at = datetime.datetime.strptime(match[2], _TIME).replace(tzinfo=datetime.UTC)
    return at.timestamp()
