"""What history, prune, disk use and commit decide, and the Images service on a node that is not there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from swarmd.api.image_views import repo_digests
from swarmd.api.images import ImagesServer
from swarmd.image.core.catalog import ImageInfo
from swarmd.image.core.changes import apply_changes
from swarmd.image.core.config import History, ImageConfig, linux_platform
from swarmd.image.core.history import Step, steps
from swarmd.image.core.selection import Selection
from swarmd.image.core.usage import Usage
from swarmd.model.errors import Invalid, NotFound
from swarmd.model.spec import ContainerSpec
from swarmd.node.containers.core.committed import command_line, committed, told
from swarmd.node.runtime.port import ContainerState
from swarmd.node.solo.core.record import Record
from swarmd.rpc.v1 import images_pb2 as pb
from tests.unit.container_fakes import FakeContainers, local_containers

# -- history ---------------------------------------------------------------------------------------


def test_steps_are_told_newest_first_with_the_layers_they_made() -> None:
    history = (History(1, "base"), History(2, "ENV", empty_layer=True), History(3, "RUN", comment="c"))
    assert steps(history, (100, 20)) == (Step(3, "RUN", "c", 20), Step(2, "ENV"), Step(1, "base", size=100))


def test_a_history_that_does_not_fit_the_layers_shows_all_of_both() -> None:
    assert steps((), (1, 2)) == (Step(size=2), Step(size=1))
    assert steps((History(1, "a"), History(2, "b")), (5,)) == (Step(2, "b"), Step(1, "a", size=5))


@pytest.mark.parametrize(
    ("history", "layers", "found"),
    [
        ((History(1, "a"),), 1, ["a"]),
        ((), 2, ["", ""]),
        ((History(1, "a"), History(1, "e", empty_layer=True)), 2, ["a", "e", ""]),
        ((History(1, "a"), History(1, "b")), 1, [""]),
    ],
)
def test_a_commit_goes_on_from_a_history_that_tells_of_every_layer(
    history: tuple[History, ...], layers: int, found: list[str]
) -> None:
    whole = told(history, layers, 9.0)
    assert [each.created_by for each in whole] == found
    assert sum(not each.empty_layer for each in whole) == layers


# -- which ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(until=5.1), True),
        (Selection(until=5.0), False),
        (Selection(labels=("a",)), True),
        (Selection(labels=("a=1", "b")), False),
        (Selection(labels=("a=2",)), False),
        (Selection(without=("a=2", "b")), True),
        (Selection(without=("b", "a")), False),
    ],
)
def test_a_prune_takes_by_age_and_label(selection: Selection, taken: bool) -> None:
    assert selection.takes(5.0, {"a": "1"}) is taken
    assert selection.is_all is (selection == Selection())


# -- commit ----------------------------------------------------------------------------------------

IMAGE = ImageConfig(
    env=("PATH=/bin", "TERM=own"), entrypoint=("/entry",), cmd=("default",), user="web", workdir="/w",
    labels={"a": "1"}, onbuild=("RUN x",), shell=("bash", "-c"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "entrypoint", "cmd"),
    [
        (ContainerSpec(), ("/entry",), ("default",)),
        (ContainerSpec(args=("x",)), ("/entry",), ("x",)),
        (ContainerSpec(command=("/other",)), ("/other",), ()),
        (ContainerSpec(command=("",), args=("sh",)), (), ("sh",)),
    ],
)
def test_an_image_runs_what_its_container_ran(
    spec: ContainerSpec, entrypoint: tuple[str, ...], cmd: tuple[str, ...]
) -> None:
    made = committed(IMAGE, spec, env=(), labels={})
    assert (made.entrypoint, made.cmd) == (entrypoint, cmd)
    assert command_line(IMAGE, spec) == " ".join(cmd)


def test_an_image_has_its_container_s_settings_without_what_every_container_has_of_its_own() -> None:
    made = committed(
        IMAGE,
        ContainerSpec(workdir="/other", stop_signal="SIGINT"),
        env=("PATH=/usr/bin", "TERM=xterm", "HOSTNAME=box", "KEY=value"),
        labels={"a": "1", "b": "2", "com.docker.swarm.task.id": "t"},
    )
    assert made == msgspec.structs.replace(
        IMAGE, env=("PATH=/usr/bin", "TERM=xterm", "KEY=value"), workdir="/other", stop_signal="SIGINT",
        labels={"a": "1", "b": "2"}, onbuild=(),
    )  # fmt: skip


def test_triggers_can_be_added_to_an_image() -> None:
    assert apply_changes(ImageConfig(), ("ONBUILD RUN x", "onbuild COPY a b")).onbuild == (
        "RUN x",
        "COPY a b",
    )
    with pytest.raises(Invalid, match="FROM isn't allowed as an ONBUILD trigger"):
        apply_changes(ImageConfig(), ("ONBUILD FROM x",))


@pytest.mark.parametrize(
    ("text", "found"),
    [("linux/arm64", ("arm64", "")), ("linux/arm64/v8", ("arm64", "v8")), ("Linux/AMD64", ("amd64", ""))],
)
def test_platforms_are_read(text: str, found: tuple[str, str]) -> None:
    assert linux_platform(text) == found


@pytest.mark.parametrize("text", ["linux", "linux/", "windows/amd64", "linux/a/b/c"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="write linux/amd64"):
        linux_platform(text)


# -- the service -----------------------------------------------------------------------------------

DIGEST, INDEX = f"sha256:{'d' * 64}", f"sha256:{'e' * 64}"


@pytest.mark.parametrize(
    ("refs", "indexes", "found"),
    [
        (("a:1", "a:2", "b:1"), (), [f"a@{DIGEST}", f"b@{DIGEST}"]),
        (("a:1",), (INDEX,), [f"a@{INDEX}"]),
        (("a:1", f"a@{INDEX}"), (), [f"a@{INDEX}"]),
        ((), (), []),
    ],
)
def test_a_repository_knows_an_image_by_what_it_was_pulled_by(
    refs: tuple[str, ...], indexes: tuple[str, ...], found: list[str]
) -> None:
    assert repo_digests(ImageInfo("sha256:1", DIGEST, refs, 0.0, 1, indexes)) == found


class Kept:
    """Records of single containers; ``waiting`` is between two runs, ``busy`` starts when it is removed."""

    def __init__(self, *records: Record) -> None:
        self.records = {record.id: record for record in records}

    def all(self) -> list[Record]:
        return list(self.records.values())

    def get(self, container_id: str) -> Record | None:
        return self.records.get(container_id)

    def waits(self, container_id: str) -> bool:
        return container_id == "waiting"

    async def remove(self, container_id: str, *, force: bool, volumes: bool) -> None:
        assert not force
        if container_id == "gone":
            raise NotFound("No such container: gone")
        del self.records[container_id]


class Sizes:
    """Archives of which every layer has ten bytes."""

    async def size(self, container_id: str) -> int:
        return 10


class NoVolumes:
    """A node without volumes."""

    async def list(self) -> Any:
        return []

    def all_users(self) -> dict[str, list[str]]:
        return {}


class Nothing:
    """A store without images, but for a blob of one."""

    def list(self) -> Any:
        return []

    def resolve(self, ref: str) -> ImageInfo:
        raise NotFound(f"No such image: {ref}")

    def blob_path(self, digest: str) -> Path:
        if digest != DIGEST:
            raise NotFound(f"No such blob: {digest}")
        return Path()

    def image_users(self, digest: str) -> list[str]:
        return []

    async def usage(self, in_use: object) -> Usage:
        return Usage((), 0, 0, 0)

    async def save(self, *refs: str) -> AsyncGenerator[bytes, None]:
        for ref in refs:
            yield ref.encode()


class Context:
    """The end of a call."""

    ended: tuple[Any, ...] = ()

    async def abort(self, *ended: Any, **more: Any) -> None:
        self.ended = ended
        raise EndedError


class EndedError(Exception):
    """What gRPC raises."""


def record(container_id: str, *, created_at: float = 0.0, **labels: str) -> Record:
    spec = ContainerSpec(image="busybox", labels=labels)
    return Record(id=container_id, name=container_id, image="busybox", spec=spec, created_at=created_at)


def server(keeper: Kept) -> ImagesServer:
    runtime = FakeContainers()
    for each in keeper.all():
        status = "running" if each.id == "running" else "exited"
        runtime.states[each.id] = ContainerState(id=each.id, status=cast("Any", status))
    nothing: Any = Nothing()
    here = local_containers(runtime, cast("Any", Sizes()))

    async def cache() -> tuple[pb.CacheUsage, ...]:
        return (
            pb.CacheUsage(size=3),
            pb.CacheUsage(size=4, digest=DIGEST),
            pb.CacheUsage(size=5, digest=INDEX),
        )

    return ImagesServer(nothing, here, cast("Any", keeper), cast("Any", NoVolumes()), nothing, cache)


async def test_only_single_containers_that_have_ended_and_are_meant_are_pruned() -> None:
    keeper = Kept(
        record("ended"), record("running"), record("waiting"), record("gone"), record("kept", keep="yes"),
        record("young", created_at=9.0),
    )  # fmt: skip
    request = pb.PruneContainersRequest(until=5.0, without=["keep"])
    answer = await server(keeper).PruneContainers(request, None)
    assert answer == pb.PruneContainersResponse(deleted=["ended"], reclaimed=10)
    assert set(keeper.records) == {"running", "waiting", "gone", "young", "kept"}


async def test_usage_has_every_container_and_the_build_cache() -> None:
    answer = await server(Kept(record("ended"), record("running"))).GetUsage(pb.GetUsageRequest(), None)
    assert [(each.container.name, each.size) for each in answer.containers] == [
        ("ended", 10),
        ("running", 10),
    ]
    assert [(each.size, each.shared) for each in answer.cache] == [(3, False), (4, True), (5, False)]


async def test_the_history_of_an_image_that_is_not_here_is_refused_in_docker_s_words() -> None:
    context = Context()
    with pytest.raises(EndedError):
        await server(Kept()).GetHistory(pb.GetHistoryRequest(ref="nosuch"), context)
    assert "No such image: nosuch" in context.ended


async def test_archives_come_in_pieces() -> None:
    request = pb.SaveImagesRequest(refs=["a", "b"])
    found = [each.data async for each in server(Kept()).SaveImages(request, None)]
    assert found == [b"a", b"b"]
