"""How a build ends for the client that asked for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest

from swarmd.api.build import BuilderServer
from swarmd.image.build.work import Watch
from swarmd.image.core.catalog import ImageInfo
from swarmd.node.building.builder import Built
from swarmd.rpc.v1 import build_pb2 as pb
from tests.unit.agent_fakes import StillClock


class Breaking:
    """A builder that fails as nobody foresaw."""

    spool = None

    async def build(self, *_: object) -> None:
        raise OSError("no more inodes")


class Quick:
    """A builder whose steps are over before anybody hears of them, but for the output of the last."""

    spool = None

    async def build(self, request: object, context: object, watch: Watch, warn: object) -> Built:
        first, second = watch.vertex("first"), watch.vertex("second")
        watch.ended(first, cached=True)
        watch.started(second)
        watch.output(second, 1, b"working")
        watch.ended(second)
        return Built(ImageInfo(id="sha256:id", digest="sha256:d", refs=(), created=0.0, size=0), ("app:1",))


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


async def test_a_step_is_told_as_it_is_by_then_and_its_end_behind_its_output() -> None:
    async def asked() -> AsyncIterator[pb.BuildRequest]:
        yield pb.BuildRequest(options=pb.BuildOptions(dockerfile=b"FROM scratch"))
        yield pb.BuildRequest(entries=pb.ContextEntries(last=True))

    server = BuilderServer(cast(Any, Quick()), StillClock(), lambda: None, lambda name, error: None)
    told = [message async for message in server.Build(asked(), Call())]
    kinds = [message.WhichOneof("body") for message in told]
    assert kinds == ["vertex", "vertex", "output", "vertex", "done"]
    first, second, _, ended, _ = (message.vertex for message in told)
    assert (first.name, first.cached, bool(first.completed)) == ("first", True, True)
    assert (second.name, bool(second.started), bool(second.completed)) == ("second", True, False)
    assert (ended.number, bool(ended.completed)) == (second.number, True)
