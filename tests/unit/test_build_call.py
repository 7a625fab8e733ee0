"""How a build ends for the client that asked for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest

from swarmd.api.build import BuilderServer
from swarmd.rpc.v1 import build_pb2 as pb
from tests.unit.agent_fakes import StillClock


class Breaking:
    """A builder that fails as nobody foresaw."""

    spool = None

    async def build(self, *_: object) -> None:
        raise OSError("no more inodes")


class Aborted(Exception):
    """The call ended with an error."""


class Call:
    """The server's side of a call."""

    async def abort(self, code: grpc.StatusCode, text: str, trailing: object) -> None:
        raise Aborted(text)


async def test_a_build_that_breaks_off_is_a_failure_for_its_client() -> None:
    async def asked() -> AsyncIterator[pb.BuildRequest]:
        yield pb.BuildRequest(options=pb.BuildOptions(dockerfile=b"FROM scratch"))
        yield pb.BuildRequest(entries=pb.ContextEntries(last=True))

    reported: list[BaseException] = []
    changes: list[None] = []
    server = BuilderServer(
        cast(Any, Breaking()),
        StillClock(),
        lambda: changes.append(None),
        lambda name, error: reported.append(error),
    )
    with pytest.raises(Aborted, match="the build broke off"):
        await anext(server.Build(asked(), Call()))
    assert [type(error) for error in reported] == [OSError]
    assert not changes
