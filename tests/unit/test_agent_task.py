"""One task on one node: what the managers want, and what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.errors import NotFound
from swarmd.model.spec import DeviceSpec, MountSpec, PortSpec
from swarmd.model.states import TaskState
from swarmd.node.agent.executor import LISTEN_LIMIT
from swarmd.node.agent.worker import SPEC_GONE
from swarmd.node.volume.core.volume import anonymous_name
from swarmd.rpc.v1 import agent_pb2
from tests.unit.agent_fakes import Disk
from tests.unit.agent_rig import (
    NODE,
    Daemon,
    Managers,
    assign,
    assignments,
    reached,
    spec_with,
)

READY, RUNNING, SHUTDOWN = TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(Disk(), Managers(), tmp_path)
    await daemon.open()
    yield daemon
    await daemon.kill()


async def test_a_task_that_asks_for_a_device_the_node_does_not_offer_is_rejected(daemon: Daemon) -> None:
    await assign(daemon, RUNNING, spec=spec_with(devices=(DeviceSpec(source="/dev/null"),)))
    await reached(daemon, TaskState.REJECTED)
    assert "device /dev/null is not offered by node host" in daemon.managers.last().error
    assert daemon.disk.containers == {}


# -- the good way ---------------------------------------------------------------------------------


async def test_a_task_goes_through_all_its_states_in_order(daemon: Daemon) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    names = [state.name for state in dict.fromkeys(daemon.managers.states())]
    assert names == ["ASSIGNED", "ACCEPTED", "PREPARING", "READY", "STARTING", "RUNNING"]
    status = daemon.managers.last()
    assert (status.pid, status.address, status.container_id) == (100, "10.128.1.10", "t1")
    assert daemon.disk.record().status == status, "durable before it is reported"
    assert daemon.worker.running() == 1
    assert (daemon.worker.states(), daemon.worker.stopping()) == ([RUNNING], 0)
    assert daemon.worker.reached.counts() == {(name.lower(),): 1.0 for name in names[1:]}


async def test_a_task_wanted_ready_waits_there_and_starts_when_it_is_wanted_running(daemon: Daemon) -> None:
    await assign(daemon, READY)
    await reached(daemon, READY)
    assert daemon.disk.containers == {}
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    assert daemon.disk.record().desired is RUNNING


async def test_a_task_counts_as_running_when_its_published_ports_listen_or_the_patience_is_over(
    daemon: Daemon,
) -> None:
    daemon.network.open_ports = False
    began = daemon.clock.now()
    ports = (PortSpec(target=80),)
    await daemon.worker.assign(assignments(("t1", RUNNING), ports=ports), NODE)
    await reached(daemon, RUNNING)
    assert LISTEN_LIMIT <= daemon.clock.now() - began < LISTEN_LIMIT + 1


async def test_a_program_that_ends_while_its_ports_are_looked_at_is_no_failure_of_the_agent(
    daemon: Daemon,
) -> None:
    daemon.troubles.always("listening", NotFound("process 100 is not there any more"))
    ports = (PortSpec(target=80),)
    await daemon.worker.assign(assignments(("t1", RUNNING), ports=ports), NODE)
    await daemon.eventually(lambda: daemon.runtime.inspect("t1") and daemon.disk.runs["t1"])
    daemon.runtime.exit("t1", 3)
    await reached(daemon, TaskState.FAILED)
    assert daemon.managers.last().error == "task: non-zero exit (3)"


async def test_shutting_down_drains_first_and_uses_the_specs_signal_and_grace(daemon: Daemon) -> None:
    spec = spec_with(stop_signal="SIGINT", stop_grace=3.0)
    ports = (PortSpec(target=80),)
    await daemon.worker.assign(assignments(("t1", RUNNING), spec=spec, ports=ports), NODE)
    await reached(daemon, RUNNING)
    daemon.network.open_connections = [2, 1]
    began = daemon.clock.now()
    await daemon.worker.assign(assignments(("t1", SHUTDOWN), spec=spec, ports=ports), NODE)
    await reached(daemon, SHUTDOWN)
    assert set(daemon.network.drained) == {"t1"}
    assert 1.25 <= daemon.clock.now() - began <= 2
    assert daemon.runtime.signals == [("SIGINT", 3.0)]
    status = daemon.managers.last()
    assert (status.exit_code, status.address, status.pid) == (143, "", 0)
    assert daemon.disk.interfaces == {}
    assert daemon.disk.containers["t1"].status == "exited", "its logs stay until the task is removed"


@pytest.mark.parametrize(
    ("code", "changes", "state", "error"),
    [
        (0, {}, TaskState.COMPLETE, ""),
        (42, {}, TaskState.FAILED, "task: non-zero exit (42)"),
        (137, {"oom_killed": True}, TaskState.FAILED, "out of memory"),
        (255, {"error": "the machine was restarted"}, TaskState.FAILED, "the machine was restarted"),
    ],
)
async def test_a_container_that_ends_by_itself_ends_its_task(
    daemon: Daemon, code: int, changes: dict[str, object], state: TaskState, error: str
) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    daemon.runtime.exit("t1", code, **changes)
    await reached(daemon, state)
    assert daemon.managers.last().exit_code == code
    assert error in daemon.managers.last().error
    await daemon.eventually(lambda: daemon.disk.interfaces == {})


# -- assignments ----------------------------------------------------------------------------------


async def test_a_complete_assignment_removes_what_it_does_not_name(daemon: Daemon) -> None:
    await daemon.worker.assign(assignments(("t1", RUNNING), ("t2", RUNNING)), NODE)
    await reached(daemon, RUNNING, "t1")
    await reached(daemon, RUNNING, "t2")
    await daemon.worker.assign(assignments(("t2", RUNNING)), NODE)
    await daemon.eventually(lambda: "t1" not in daemon.disk.records)
    assert daemon.disk.containers.keys() == daemon.disk.interfaces.keys() == {"t2"}


async def test_an_incremental_assignment_leaves_alone_what_it_does_not_name(daemon: Daemon) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    await daemon.worker.assign(assignments(("t2", RUNNING), complete=False), NODE)
    await reached(daemon, RUNNING, "t2")
    assert daemon.disk.containers["t1"].status == "running"
    await daemon.worker.assign(assignments(complete=False, removed=("t1",)), NODE)
    await daemon.eventually(lambda: daemon.disk.containers.keys() == {"t2"})


async def test_removal_takes_container_anonymous_volume_and_record_but_no_named_volume(
    daemon: Daemon, tmp_path: Path
) -> None:
    mounts = (MountSpec(target="/data"), MountSpec(source="kept", target="/kept"))
    await assign(daemon, RUNNING, spec=spec_with(mounts=mounts))
    await reached(daemon, RUNNING)
    assert {path.name for path in tmp_path.iterdir()} == {anonymous_name("t1", "/data"), "kept"}
    await daemon.worker.assign(assignments(), NODE)
    await daemon.eventually(lambda: daemon.disk.is_empty)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert daemon.worker.users_of(lambda image: True) == []


async def test_being_told_the_same_again_writes_nothing(daemon: Daemon) -> None:
    await assign(daemon, RUNNING)
    await reached(daemon, RUNNING)
    daemon.troubles.always("put", AssertionError("written"))
    await assign(daemon, RUNNING)
    assert daemon.managers.last().state is RUNNING


async def test_what_is_wanted_never_goes_back(daemon: Daemon) -> None:
    daemon.images.fetching = asyncio.Event()
    await assign(daemon, RUNNING)
    await reached(daemon, TaskState.PREPARING)
    await daemon.worker.assign(assignments(("t1", SHUTDOWN), ("t2", RUNNING)), NODE)
    await daemon.worker.assign(assignments(("t1", RUNNING), ("t2", RUNNING)), NODE)
    await reached(daemon, SHUTDOWN)
    assert daemon.disk.runs["t1"] == 0


async def test_a_task_whose_spec_is_gone_still_ends_in_a_status(daemon: Daemon) -> None:
    def without_specs(desired: TaskState, task_id: str) -> agent_pb2.Assignments:
        message = assignments((task_id, desired), complete=False)
        message.ClearField("specs")
        return message

    await daemon.worker.assign(without_specs(SHUTDOWN, "t1"), NODE)
    await reached(daemon, SHUTDOWN, "t1")
    await daemon.worker.assign(without_specs(RUNNING, "t2"), NODE)
    await reached(daemon, TaskState.FAILED, "t2")
    assert daemon.managers.last("t2").error == SPEC_GONE


async def test_specs_of_earlier_sessions_are_not_kept_for_ever(daemon: Daemon) -> None:
    await assign(daemon, READY)
    await reached(daemon, READY)
    message = assignments(("t1", READY), ("t2", READY))
    message.ClearField("specs")
    await daemon.worker.assign(message, NODE)
    await reached(daemon, TaskState.FAILED, "t2")
    assert daemon.managers.last("t1").state is READY


async def test_a_node_that_leaves_ends_all_its_tasks(daemon: Daemon) -> None:
    await daemon.worker.assign(assignments(("t1", RUNNING), ("t2", READY)), NODE)
    await reached(daemon, RUNNING, "t1")
    await reached(daemon, READY, "t2")
    await daemon.worker.stop_all()
    await daemon.eventually(lambda: daemon.disk.is_empty)
    assert daemon.worker.running() == 0


async def test_a_node_without_tasks_leaves_at_once(daemon: Daemon) -> None:
    await daemon.worker.stop_all()
    assert daemon.disk.is_empty


# -- shutdown at any time -------------------------------------------------------------------------


async def test_a_task_is_stopped_while_its_image_is_on_the_way(daemon: Daemon) -> None:
    daemon.images.fetching = asyncio.Event()
    await assign(daemon, RUNNING)
    await reached(daemon, TaskState.PREPARING)
    await assign(daemon, SHUTDOWN)
    await reached(daemon, SHUTDOWN)
    assert daemon.managers.last().exit_code == -1
    assert daemon.disk.runs["t1"] == 0


@pytest.mark.parametrize("point", range(1, 30))
async def test_a_task_is_stopped_at_any_point_of_its_start(daemon: Daemon, point: int) -> None:
    await assign(daemon, RUNNING)
    await daemon.eventually(lambda: daemon.points.passed >= point or daemon.managers.have(RUNNING)())
    await assign(daemon, SHUTDOWN)
    await reached(daemon, SHUTDOWN)
    assert daemon.disk.interfaces == {}
    assert all(state.status == "exited" for state in daemon.disk.containers.values())
    states = daemon.managers.states()
    assert states == sorted(states)
