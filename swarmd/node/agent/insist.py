"""Work that has to be done in the end, as often as it takes, and calls that fail in words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import grpc

from swarmd.kit.backoff import Backoff
from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.kit.supervise import is_cancelled
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.rpc import errors

T = TypeVar("T")


def patience() -> Backoff:
    """0.2 s, doubling to 5 s."""
    return Backoff(first=0.2, cap=5.0, fraction=random_fraction)


async def insist(
    act: Callable[[], Coroutine[Any, Any, T]], clock: Clock, failed: Callable[[SwarmError], None]
) -> T:
    """The result of ``act`` once it succeeds; each failure is told and followed by a pause."""
    backoff = patience()
    while True:
        try:
            return await act()
        except SwarmError as error:
            failed(error)
        await clock.sleep(backoff.next())


@contextlib.contextmanager
def call() -> Iterator[None]:
    """Around a gRPC call: what it fails with becomes a SwarmError.

    A channel that is closed under a call (new certificates) cancels it; that must not look as if the
    caller had been cancelled.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise errors.from_rpc(error) from error
    except grpc.aio.UsageError as error:
        raise Unavailable(f"the connection cannot be used: {error}") from error
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        raise Unavailable("the connection was closed during a call") from None
