"""The swarm's log-ins to registries: who may have them, and what a service's image is pinned to."""

from __future__ import annotations

import asyncio

import pytest

from swarmd.control.logins import Logins
from swarmd.control.pinning import LATE, SOON, Pinning
from swarmd.manager.dispatcher.logins import for_node
from swarmd.model.errors import Denied, Invalid, NotFound, Refused
from swarmd.model.image_ref import ImageRef, parse
from swarmd.model.objects import SpecVersion, spec_version_id
from swarmd.model.registry import RegistryCredential
from swarmd.model.replace import replace
from swarmd.model.spec import MountSpec
from swarmd.model.states import TaskState
from tests.unit.test_control_bed import Bed, a_spec, a_task

HOST = "registry.example.com:5000"
ROW = RegistryCredential(id=HOST, username="anna", password="secret")


@pytest.fixture
def bed() -> Bed:
    return Bed()


async def test_a_log_in_is_kept_replaced_listed_and_removed(bed: Bed) -> None:
    logins = Logins(bed.store)
    await logins.save(ROW)
    await logins.save(replace(ROW, password="other"))
    await logins.save(RegistryCredential(id="docker.io", identity_token="lasting"))
    assert [(row.id, row.password) for row in logins.all()] == [("docker.io", ""), (HOST, "other")]
    await logins.remove(HOST)
    assert [row.id for row in logins.all()] == ["docker.io"]
    with pytest.raises(NotFound, match=HOST):
        await logins.remove(HOST)


async def test_a_log_in_that_somebody_else_changes_meanwhile_is_saved_all_the_same(bed: Bed) -> None:
    logins = Logins(bed.store)
    await logins.save(ROW)
    bed.quicker(lambda: replace(logins.all()[0], password="quicker"))
    await logins.save(replace(ROW, password="mine"))
    assert logins.all()[0].password == "mine"


@pytest.mark.parametrize("host", ["", "https://x", "a/b", "UPPER/x", "host:port", "-"])
async def test_a_log_in_is_for_a_host(bed: Bed, host: str) -> None:
    with pytest.raises(Invalid, match="no registry"):
        await Logins(bed.store).save(replace(ROW, id=host))


async def test_a_log_in_needs_a_name_and_a_password_or_a_token(bed: Bed) -> None:
    for missing in ({"username": ""}, {"password": ""}):
        with pytest.raises(Invalid, match="username and a password"):
            await Logins(bed.store).save(replace(ROW, **missing))


async def with_tasks(
    bed: Bed, image: str, *, state: TaskState = TaskState.PREPARING, mount: str = ""
) -> None:
    template = a_spec(image=image).template
    if mount:
        mounts = (MountSpec(kind="image", source=mount, target="/data"),)
        template = replace(template, container=replace(template.container, mounts=mounts))
    version = SpecVersion(id=spec_version_id("s1", 1), service_id="s1", number=1, template=template)
    await bed.put(version, a_task("t1", "n1", state), ROW)


async def test_a_node_is_told_the_log_in_of_its_own_tasks_registries_only(bed: Bed) -> None:
    await with_tasks(bed, f"{HOST}/app:1@sha256:{'a' * 64}")
    assert for_node(bed.store, "n1", HOST) == bed.store.get(RegistryCredential, HOST)
    with pytest.raises(Refused):
        for_node(bed.store, "n1", "docker.io")
    with pytest.raises(Refused):
        for_node(bed.store, "n2", HOST)


async def test_images_that_are_mounted_count_as_a_tasks(bed: Bed) -> None:
    await with_tasks(bed, "nginx:1", mount=f"{HOST}/data:1")
    assert for_node(bed.store, "n1", HOST) is not None
    assert for_node(bed.store, "n1", "docker.io") is None, "there is none"


async def test_a_task_that_ended_gives_no_log_in(bed: Bed) -> None:
    await with_tasks(bed, f"{HOST}/app:1", state=TaskState.FAILED)
    with pytest.raises(Refused):
        for_node(bed.store, "n1", HOST)


# -- pinning ---------------------------------------------------------------------------------------


HELD, THERE = "sha256:" + "b" * 64, "sha256:" + "c" * 64


class Registry:
    """Says a digest, refuses, or never answers."""

    def __init__(self, answer: str = THERE, error: Exception | None = None, *, hangs: bool = False) -> None:
        self.answer, self.error, self.hangs = answer, error, hangs
        self.asked: list[str] = []

    async def ask(self, ref: ImageRef) -> str:
        self.asked.append(ref.familiar())
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.answer


def pinning(registry: Registry, held: str = HELD) -> Pinning:
    return Pinning(lambda: lambda ref: held, registry.ask, own=("localhost:5000",))


async def test_what_the_registry_says_now_goes_before_what_nodes_hold() -> None:
    assert await pinning(Registry()).digest(parse("app:1")) == THERE


@pytest.mark.parametrize("error", [NotFound("x"), Denied("x")])
async def test_what_the_registry_does_not_say_is_what_the_nodes_hold(error: Exception) -> None:
    assert await pinning(Registry(error=error)).digest(parse("app:1")) == HELD
    assert await pinning(Registry(error=error), held="").digest(parse("app:1")) == ""


async def test_the_swarms_own_names_are_asked_of_nobody_else() -> None:
    registry = Registry()
    assert await pinning(registry).digest(parse("localhost:5000/app:1")) == HELD
    assert registry.asked == []


async def test_a_registry_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SOON < LATE < 30.0, "the command line waits for half a minute"
    monkeypatch.setattr("swarmd.control.pinning.SOON", 0.0)
    assert await pinning(Registry(hangs=True)).digest(parse("app:1")) == HELD
