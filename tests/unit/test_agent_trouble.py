"""What goes wrong on a node: the task waits or ends, and says why; a daemon comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.errors import Invalid, NotFound, Refused, SwarmError, Unavailable
from swarmd.model.spec import MountSpec
from swarmd.model.states import TaskState
from swarmd.node.agent.worker import CUT_OFF
from tests.unit.agent_fakes import Disk
from tests.unit.agent_rig import (
    NODE,
    Daemon,
    Managers,
    assign,
    assignments,
    full_disk,
    reached,
    says,
    spec_with,
)

RUNNING, SHUTDOWN = TaskState.RUNNING, TaskState.SHUTDOWN


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(Disk(), Managers(), tmp_path)
    await daemon.open()
    yield daemon
    await daemon.kill()


async def restarted(daemon: Daemon, tmp_path: Path) -> Daemon:
    fresh = Daemon(await daemon.kill(), daemon.managers, tmp_path)
    await fresh.open()
    return fresh


# -- errors --------------------------------------------------------------------------------------


async def test_an_image_nobody_has_rejects_the_task_with_the_text(daemon: Daemon) -> None:
    daemon.troubles.always("ensure", NotFound("No such image: demo:1"))
    await assign(daemon, RUNNING)
    await reached(daemon, TaskState.REJECTED)
    assert daemon.managers.last().error == "No such image: demo:1"


async def test_a_bind_source_that_does_not_exist_rejects_the_task(daemon: Daemon, tmp_path: Path) -> None:
    mount = MountSpec(kind="bind", source=str(tmp_path / "nowhere"), target="/data")
    await assign(daemon, RUNNING, spec=spec_with(mounts=(mount,)))
    await reached(daemon, TaskState.REJECTED)
    assert f"bind source path does not exist: {tmp_path / 'nowhere'}" in daemon.managers.last().error


async def test_an_image_that_cannot_be_had_now_is_waited_for_with_the_reason_in_sight(daemon: Daemon) -> None:
    daemon.troubles.always("ensure", Unavailable("no manager can be reached at the moment"))
    await assign(daemon, RUNNING)
    await says(daemon, "waiting: no manager can be reached at the moment")
    await daemon.eventually(lambda: len(daemon.clock.sleeps) > 8)
    assert daemon.managers.last().state is TaskState.PREPARING
    assert 2.5 <= daemon.clock.sleeps[-1] <= 5, "the pauses grow"
    daemon.troubles.over("ensure")
    await reached(daemon, RUNNING)
    assert daemon.managers.last().message == "started"


@pytest.mark.parametrize("operation", ["create", "attach", "start"])
async def test_a_container_that_cannot_be_started_fails_the_task_and_leaves_nothing(
    daemon: Daemon, operation: str
) -> None:
    daemon.troubles.once(operation, Invalid("exec: /bin/demo: no such file"))
    await assign(daemon, RUNNING)
    await reached(daemon, TaskState.FAILED)
    status = daemon.managers.last()
    assert status.error == "starting container failed: exec: /bin/demo: no such file"
    assert (status.pid, status.address) == (0, "")
    assert (daemon.disk.containers, daemon.disk.interfaces) == ({}, {})


@pytest.mark.parametrize(
    "error", [Unavailable("the container does not die"), Refused("not now"), OSError("surprise")]
)
async def test_a_container_that_does_not_stop_is_insisted_upon_and_never_reported_as_stopped(
    daemon: Daemon, error: Exception
) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    daemon.troubles.always("stop", error)
    await assign(daemon, SHUTDOWN)
    await says(daemon, f"waiting: {error}")
    await daemon.eventually(lambda: len(daemon.clock.sleeps) > 3)
    assert daemon.managers.last().state is RUNNING
    daemon.troubles.over("stop")
    await daemon.eventually(lambda: daemon.managers.last().state.is_terminal)
    assert daemon.disk.containers["t1"].status == "exited"


async def test_a_stop_signal_that_does_not_exist_makes_no_task_immortal(daemon: Daemon) -> None:
    spec = spec_with(stop_signal="SIGNONE")
    await assign(daemon, RUNNING, spec=spec)
    await reached(daemon, RUNNING)
    daemon.troubles.once("stop", Invalid("signal 'SIGNONE' does not exist"))
    await assign(daemon, SHUTDOWN, spec=spec)
    await reached(daemon, SHUTDOWN)
    assert daemon.runtime.signals == [("SIGTERM", 10.0)]


@pytest.mark.parametrize("operation", ["ensure", "prepare", "create", "attach", "start", "wait"])
async def test_an_error_nobody_foresaw_fails_the_task_with_the_error_and_stops_its_container(
    daemon: Daemon, operation: str
) -> None:
    daemon.troubles.once(operation, ValueError("a bug"))
    await assign(daemon, RUNNING)
    await reached(daemon, TaskState.FAILED)
    assert daemon.managers.last().error == "internal error: ValueError('a bug')"
    assert daemon.disk.interfaces == {}
    assert all(state.status == "exited" for state in daemon.disk.containers.values())
    await daemon.worker.assign(assignments(), NODE)
    await daemon.eventually(lambda: daemon.disk.is_empty)


async def test_a_cancellation_from_inside_a_library_does_not_end_the_runner(daemon: Daemon) -> None:
    daemon.troubles.once("ensure", asyncio.CancelledError())  # type: ignore[arg-type]
    await assign(daemon, RUNNING)
    await reached(daemon, TaskState.FAILED)
    assert "cancelled from inside" in daemon.managers.last().error


async def test_a_runtime_that_cannot_be_asked_for_a_moment_kills_nothing(daemon: Daemon) -> None:
    daemon.troubles.once("wait", Unavailable("the spawner is away"))
    await assign(daemon, RUNNING)
    await says(daemon, "waiting: the spawner is away")
    await daemon.eventually(lambda: daemon.clock.sleeps)
    daemon.runtime.exit("t1", 0)
    await reached(daemon, TaskState.COMPLETE)


@pytest.mark.parametrize("operation", ["remove", "detach"])
async def test_a_removal_that_fails_is_tried_again(daemon: Daemon, operation: str) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    errors: list[Exception] = [Unavailable("busy"), OSError("busy"), Unavailable("busy")]
    daemon.troubles.once(operation, *errors)
    await daemon.worker.assign(assignments(), NODE)
    await daemon.eventually(lambda: daemon.disk.is_empty)


async def test_an_address_that_is_not_given_back_does_not_change_how_the_task_ended(daemon: Daemon) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    daemon.troubles.once("detach", Unavailable("netlink"))
    daemon.runtime.exit("t1", 0)
    await reached(daemon, TaskState.COMPLETE)
    await daemon.worker.assign(assignments(), NODE)
    await daemon.eventually(lambda: daemon.disk.is_empty)


# -- a full disk ----------------------------------------------------------------------------------


async def test_a_full_disk_is_waited_for_with_the_reason_in_sight(daemon: Daemon) -> None:
    daemon.troubles.always("put", full_disk())
    await assign(daemon, RUNNING)
    await says(daemon, "waiting: the task database cannot be used: database or disk is full")
    assert daemon.managers.last().state is TaskState.ASSIGNED, "nothing is reported that is not durable"
    daemon.troubles.over("put")
    await reached(daemon, RUNNING)


async def test_a_full_disk_does_not_keep_a_task_from_being_stopped(daemon: Daemon) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    daemon.troubles.always("put", full_disk())
    await assign(daemon, SHUTDOWN)
    await daemon.eventually(lambda: daemon.disk.containers["t1"].status == "exited")
    await says(daemon, "waiting: the task database")
    assert daemon.managers.last().state is RUNNING
    daemon.troubles.over("put")
    await reached(daemon, SHUTDOWN)


async def test_a_full_disk_keeps_no_task_of_a_message_from_what_is_wanted(daemon: Daemon) -> None:
    await daemon.worker.assign(assignments(("t1", RUNNING), ("t2", RUNNING)), NODE)
    await reached(daemon, RUNNING, "t1")
    await reached(daemon, RUNNING, "t2")
    daemon.troubles.always("put", full_disk())
    daemon.troubles.always("delete", full_disk())
    await daemon.worker.assign(assignments(), NODE)
    await daemon.eventually(lambda: daemon.disk.containers == {})
    assert daemon.disk.records.keys() == {"t1", "t2"}
    daemon.troubles.over("delete")
    await daemon.eventually(lambda: daemon.disk.is_empty)


# -- a daemon that comes back ---------------------------------------------------------------------


async def test_a_container_that_ended_while_the_daemon_was_away_ends_its_task(
    daemon: Daemon, tmp_path: Path
) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    await daemon.kill()
    daemon.runtime.exit("t1", 7)
    back = await restarted(daemon, tmp_path)
    await reached(back, TaskState.FAILED)
    assert (back.managers.last().exit_code, back.disk.runs["t1"]) == (7, 1)
    await back.kill()


async def test_a_container_that_is_gone_after_a_restart_fails_its_task(
    daemon: Daemon, tmp_path: Path
) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    await daemon.kill()
    daemon.disk.containers.clear()
    back = await restarted(daemon, tmp_path)
    await reached(back, TaskState.FAILED)
    assert back.managers.last().error == "task: its container is gone from this node"
    assert back.disk.interfaces == {}
    await back.kill()


async def test_a_container_without_its_interface_after_a_restart_is_stopped_and_fails(
    daemon: Daemon, tmp_path: Path
) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    await daemon.kill()
    daemon.disk.interfaces.clear()
    back = await restarted(daemon, tmp_path)
    await reached(back, TaskState.FAILED)
    assert back.managers.last().error == CUT_OFF
    assert back.disk.containers["t1"].status == "exited"
    await back.kill()


async def test_a_network_that_cannot_be_restored_now_fails_no_task(daemon: Daemon, tmp_path: Path) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    back = Daemon(await daemon.kill(), daemon.managers, tmp_path)
    back.troubles.once("restore", Refused("the network is not configured yet"))
    await back.open()
    await back.worker.assign(assignments(("t1", RUNNING), ("t2", RUNNING)), NODE)
    await reached(back, RUNNING, "t2")
    assert back.managers.last("t1").state is RUNNING
    await back.kill()


@pytest.mark.parametrize("error", [None, Unavailable("does not die")])
async def test_a_container_of_no_task_is_removed_or_at_least_does_not_keep_the_daemon_from_starting(
    daemon: Daemon, tmp_path: Path, error: SwarmError | None
) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    back = Daemon(await daemon.kill(), daemon.managers, tmp_path)
    back.disk.records.clear()
    if error is not None:
        back.troubles.once("stop", error)
    await back.open()
    assert (back.disk.containers == {}) is (error is None)
    await back.kill()
