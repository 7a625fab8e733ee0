"""Wakes whoever follows a directory when something happens in it: one descriptor for all followers of a loop.

A user may have 128 inotify descriptors and many thousands of watches, and an idle follower costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import weakref
from pathlib import Path

from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import linux

_EVENT = struct.Struct("iIII")
# A directory that is removed says nothing of itself while somebody has a file of it open, as followers do.
_MASK = linux.IN_MODIFY | linux.IN_CREATE | linux.IN_DELETE | linux.IN_DELETE_SELF
_ALL = -1  # the kernel's queue was full: anything may have happened


class Watch:
    """Of one directory, which need not exist (any more)."""

    def __init__(self, directory: Path) -> None:
        self._event = asyncio.Event()
        self._hub = _hub()
        self._number = self._hub.add(directory, self._event)

    async def changed(self) -> None:
        """Since the last call; at once if there is nothing to watch."""
        if self._number is not None:
            await self._event.wait()
        self._event.clear()

    def close(self) -> None:
        if self._number is not None:
            self._hub.remove(self._number, self._event)
            self._number = None


class _Hub:
    """The descriptor, open while somebody watches."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fd = -1
        self._watching: dict[int, set[asyncio.Event]] = {}

    def add(self, directory: Path, event: asyncio.Event) -> int | None:
        if self._fd < 0:
            self._fd = kernel.inotify_init()
            self._loop.add_reader(self._fd, self._readable)
        try:
            number = kernel.inotify_add(self._fd, str(directory), _MASK)
        except FileNotFoundError:
            self._rest()
            return None
        self._watching.setdefault(number, set()).add(event)
        return number

    def remove(self, number: int, event: asyncio.Event) -> None:
        events = self._watching.get(number, set())
        events.discard(event)
        if not events:
            self._watching.pop(number, None)
            with contextlib.suppress(OSError):  # the directory has gone, and the watch with it
                kernel.inotify_remove(self._fd, number)
        self._rest()

    def _rest(self) -> None:
        if not self._watching and self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 64 * 1024)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, _, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            for each in list(self._watching) if number == _ALL else [number]:
                for event in self._watching.get(each, ()):
                    event.set()


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Hub] = weakref.WeakKeyDictionary()


def _hub() -> _Hub:
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = _Hub(loop)
    return _hubs[loop]
