"""SwarmErrors over gRPC: a status code, the sentence, and the kind as trailing metadata."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import grpc

from swarmd.kit.supervise import cancellations
from swarmd.model.errors import KINDS, OLDER, Refused, SwarmError, Unavailable

KIND_KEY = "swarmd-kind"

_CODES: dict[str, grpc.StatusCode] = {
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "conflict": grpc.StatusCode.ALREADY_EXISTS,
    "out_of_sequence": grpc.StatusCode.ABORTED,
    "refused": grpc.StatusCode.FAILED_PRECONDITION,
    "denied": grpc.StatusCode.PERMISSION_DENIED,
    "not_manager": grpc.StatusCode.FAILED_PRECONDITION,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "outcome_unknown": grpc.StatusCode.UNAVAILABLE,
    "internal": grpc.StatusCode.INTERNAL,
}
_MOST_BYTES = 2000
"""Of a text.  It travels in a header of at most 8 KiB, three bytes for each that is not plain ASCII."""


async def abort(context: Any, error: SwarmError) -> NoReturn:
    """End a call with an error that the caller may be told."""
    code = _CODES.get(error.kind, grpc.StatusCode.UNKNOWN)
    try:
        await context.abort(code, _fitting(str(error)), ((KIND_KEY, error.kind),))
    except grpc.aio.InternalError as unsent:  # the caller has gone: the call is over already
        raise grpc.aio.AbortError(str(error)) from unsent
    raise AssertionError  # abort() raises


def _fitting(text: str) -> str:
    data = text.encode(errors="replace")
    return text if len(data) <= _MOST_BYTES else data[:_MOST_BYTES].decode(errors="ignore") + " …"


def from_rpc(error: grpc.RpcError) -> SwarmError:
    """The SwarmError behind a failed call: Unavailable for a broken connection, Refused for a call that the
    other side's version does not know."""
    trailing: Any = error.trailing_metadata() or ()
    details = str(error.details() or "")
    kind = dict(trailing).get(KIND_KEY)
    if kind is not None:
        return KINDS.get(str(kind), SwarmError)(details)
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Refused(OLDER)
    return Unavailable(details or str(error))


def was_told(error: grpc.RpcError) -> bool:
    """The other side said what is wrong; otherwise the connection did."""
    trailing: Any = error.trailing_metadata() or ()
    return KIND_KEY in dict(trailing) or error.code() is grpc.StatusCode.UNIMPLEMENTED


@contextlib.contextmanager
def calling() -> Iterator[None]:
    """Around a gRPC call: what it fails with becomes a SwarmError.

    A channel that is closed under a call (new certificates) cancels it; that must not look as if the
    caller had been cancelled.  And a call that fails just as its caller is cancelled must not hide that.
    """
    before = cancellations()
    try:
        yield
    except grpc.RpcError as error:
        if cancellations() > before:
            raise asyncio.CancelledError from error
        raise from_rpc(error) from error
    except grpc.aio.UsageError as error:
        raise Unavailable(f"the connection cannot be used: {error}") from error
    except asyncio.CancelledError:
        if cancellations():
            raise
        raise Unavailable("the connection was closed during a call") from None
