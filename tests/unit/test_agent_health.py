"""What probes mean for a task: when it runs, when it gets requests, when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.health import HealthSpec, ProbeSpec
from swarmd.model.states import TaskState
from tests.unit.agent_fakes import Disk
from tests.unit.agent_rig import Daemon, Managers, assign, reached, says, spec_with

HEALTH = HealthSpec(test=("CMD", "check"), interval=1.0, retries=2)
READINESS = ProbeSpec(kind="http", port=80, path="/", interval=1.0, failures=2)
LIVENESS = ProbeSpec(kind="tcp", port=80, interval=1.0, failures=2)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    made = Daemon(Disk(), Managers(), tmp_path)
    yield made
    await made.nursery.close()


async def test_a_task_runs_only_after_its_first_good_health_check(daemon: Daemon) -> None:
    daemon.prober.script["exec"] = [False, True]
    await assign(daemon, TaskState.RUNNING, spec=spec_with(health=HEALTH))
    await says(daemon, "starting: waiting for its health check to succeed: connection refused")
    await reached(daemon, TaskState.RUNNING)
    assert daemon.managers.last().health == "healthy"
    assert daemon.managers.states().count(TaskState.RUNNING) == 1


async def test_an_unhealthy_container_is_stopped_and_its_task_has_failed(daemon: Daemon) -> None:
    daemon.prober.script["exec"] = [True, True, False]
    await assign(daemon, TaskState.RUNNING, spec=spec_with(health=HEALTH))
    await reached(daemon, TaskState.FAILED)
    last = daemon.managers.last()
    assert last.error == "task: non-zero exit (143): unhealthy container: connection refused"
    assert (last.health, last.exit_code, last.address) == ("unhealthy", 143, "")
    assert TaskState.RUNNING in daemon.managers.states()
    assert daemon.runtime.inspect("t1") is not None
    assert daemon.runtime.signals == [("", 10.0)]


async def test_a_container_that_never_gets_healthy_fails_without_having_run(daemon: Daemon) -> None:
    daemon.prober.script["exec"] = [False]
    await assign(daemon, TaskState.RUNNING, spec=spec_with(health=HEALTH))
    await reached(daemon, TaskState.FAILED)
    assert TaskState.RUNNING not in daemon.managers.states()


async def test_an_unready_task_runs_on_and_is_told_as_unready(daemon: Daemon) -> None:
    daemon.prober.script["http"] = [False, True, False, False, True]
    await assign(daemon, TaskState.RUNNING, spec=spec_with(readiness=READINESS))
    await says(daemon, "starting: waiting for its readiness probe to succeed")
    await reached(daemon, TaskState.RUNNING)
    assert not daemon.managers.last().unready
    await daemon.eventually(lambda: daemon.managers.last().unready)
    assert daemon.managers.last().state is TaskState.RUNNING
    assert daemon.managers.last().message == "waiting for its readiness probe to succeed: connection refused"
    await daemon.eventually(lambda: not daemon.managers.last().unready)
    assert daemon.managers.last().message == "started"


async def test_a_failed_liveness_probe_ends_the_task(daemon: Daemon) -> None:
    daemon.prober.script["tcp"] = [True, False]
    await assign(daemon, TaskState.RUNNING, spec=spec_with(liveness=LIVENESS))
    await reached(daemon, TaskState.FAILED)
    assert "liveness probe failed: connection refused" in daemon.managers.last().error


async def test_a_task_that_is_told_to_stop_while_it_is_probed_stops(daemon: Daemon) -> None:
    daemon.prober.script["exec"] = [False]
    slow = HealthSpec(test=("CMD", "check"), interval=1.0, retries=1000)
    await assign(daemon, TaskState.RUNNING, spec=spec_with(health=slow))
    await reached(daemon, TaskState.STARTING)
    await assign(daemon, TaskState.SHUTDOWN)
    await reached(daemon, TaskState.SHUTDOWN)


async def test_a_new_daemon_goes_on_probing_without_forgetting(tmp_path: Path) -> None:
    managers = Managers()
    first = Daemon(Disk(), managers, tmp_path)
    await assign(first, TaskState.RUNNING, spec=spec_with(health=HEALTH, readiness=READINESS))
    await reached(first, TaskState.RUNNING)
    second = Daemon(await first.kill(), managers, tmp_path)
    heard = len(managers.heard)
    second.prober.script["exec"] = [True, True, True, False]
    await second.open()
    await reached(second, TaskState.FAILED)
    after = [status for _, status in managers.heard[heard:]]
    assert {status.health for status in after[:-1]} == {"healthy", "unhealthy"} or after[
        0
    ].health == "healthy"
    assert {status.message.partition(":")[0] for status in after if status.unready} <= {"stopping"}
    await second.nursery.close()
