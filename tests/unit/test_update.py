from __future__ import annotations

from typing import Any

import pytest

from swarmd.manager.orchestrator.core.rollback import rolled_back
from swarmd.model.errors import Refused
from swarmd.model.network import NetworkAttachment, SubnetSpec
from swarmd.model.objects import Network, Row, Secret, Service, SpecVersion, UpdateStatus
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec, RestartPolicy, ServiceSpec, UpdateConfig
from swarmd.model.states import Availability, TaskState, UpdateState
from swarmd.store.core.transaction import Delete
from tests.scripts.sim import START, Sim, a_service, a_swarm


def an_update(
    update: UpdateConfig, *, replicas: int = 3, broken: tuple[str, ...] = ("bad",), **fields: Any
) -> Sim:
    """A service at rest on version 1, ready to be updated with ``update``."""
    sim = a_swarm()
    sim.broken.update(broken)
    sim.create(a_service(replicas=replicas, update=update, **fields))
    sim.settle()
    return sim


def change(sim: Sim, image: str, **fields: Any) -> None:
    spec = sim.service("web").spec
    sim.update("web", a_service(image=image, replicas=spec.replicas, update=spec.update, **fields))


def status(sim: Sim) -> UpdateStatus:
    found = sim.service("web").update_status
    assert found is not None
    return found


def versions(sim: Sim) -> list[int]:
    return [task.spec_version for task in sim.live("web")]


def test_one_slot_after_the_other_is_replaced_and_the_update_completes_after_the_monitor_window() -> None:
    sim = an_update(UpdateConfig(delay=2.0))
    change(sim, "v2")
    sim.settle()
    assert (status(sim).state, status(sim).message) == (UpdateState.UPDATING, "update in progress")
    assert versions(sim) == [2, 1, 1]
    sim.advance(2)
    assert versions(sim) == [2, 2, 1]
    sim.advance(2)
    assert versions(sim) == [2, 2, 2]
    sim.advance(4.9)
    assert status(sim).state == UpdateState.UPDATING
    sim.advance(0.1)
    assert (status(sim).state, status(sim).message) == (UpdateState.COMPLETED, "update completed")
    assert status(sim).completed_at == START + 9


def test_stop_first_prepares_the_new_task_while_the_old_one_stops() -> None:
    sim = an_update(UpdateConfig(), replicas=1)
    change(sim, "v2")
    sim.think()
    old, new = sim.tasks("web")
    assert (old.desired_state, new.desired_state) == (TaskState.SHUTDOWN, TaskState.READY)
    sim.settle()
    assert (sim.task(old.id).state, sim.task(new.id).state) == (TaskState.SHUTDOWN, TaskState.RUNNING)


def test_start_first_keeps_the_old_task_until_the_new_one_runs() -> None:
    sim = an_update(UpdateConfig(order="start-first"), replicas=1)
    change(sim, "v2")
    sim.think()
    old, new = sim.tasks("web")
    assert (old.desired_state, new.desired_state) == (TaskState.RUNNING, TaskState.RUNNING)
    sim.act()
    sim.think()
    assert sim.task(old.id).desired_state == TaskState.RUNNING
    sim.settle()
    assert (sim.task(old.id).state, sim.task(new.id).state) == (TaskState.SHUTDOWN, TaskState.RUNNING)


ON_THE_NODE = (PortSpec(target=80, published=80, mode="host"),)


@pytest.mark.parametrize(
    "fields",
    [
        {"ports": ON_THE_NODE, "mode": "global"},
        {"ports": ON_THE_NODE, "replicas": 3},
        {"max_replicas": 1, "replicas": 3},
    ],
    ids=["global", "as many replicas as nodes", "one replica on each node"],
)
def test_start_first_makes_room_where_the_old_tasks_have_every_place(fields: dict[str, Any]) -> None:
    sim = an_update(UpdateConfig(order="start-first"), **fields)
    spec = sim.service("web").spec
    sim.update("web", a_service(image="v2", update=spec.update, **fields))
    sim.settle()
    assert versions(sim) == [2, 2, 2]
    sim.advance(5)
    assert status(sim).state == UpdateState.COMPLETED


def test_start_first_takes_a_node_whose_port_is_free_and_leaves_the_old_task_alone_meanwhile() -> None:
    sim = an_update(UpdateConfig(order="start-first"), replicas=1, ports=ON_THE_NODE)
    change(sim, "v2", ports=ON_THE_NODE)
    sim.think()
    old, new = sim.tasks("web")
    assert (old.desired_state, new.desired_state) == (TaskState.RUNNING, TaskState.RUNNING)
    assert new.node_id not in ("", old.node_id)


def test_start_first_leaves_the_old_task_alone_that_does_not_have_what_the_new_one_waits_for() -> None:
    sim = a_swarm()
    sim.create(a_service("other", mode="global", ports=ON_THE_NODE))
    sim.create(a_service(replicas=2, update=UpdateConfig(order="start-first")))
    sim.settle()
    change(sim, "v2", ports=ON_THE_NODE)
    sim.settle()
    sim.advance(60)
    waits = [task for task in sim.live("web") if task.state == TaskState.PENDING]
    assert [task.status.error for task in waits] == [
        "no suitable node (host-mode port already in use on 3 nodes)"
    ]
    assert [task.spec_version for task in sim.live("web") if task.state == TaskState.RUNNING] == [1, 1]
    sim.remove("other")
    sim.settle()
    sim.advance(5)
    assert versions(sim) == [2, 2]


@pytest.mark.parametrize(("parallelism", "at_once"), [(1, 1), (2, 2), (0, 5), (9, 5)])
def test_parallelism_bounds_the_slots_in_hand_and_zero_means_all(parallelism: int, at_once: int) -> None:
    sim = an_update(UpdateConfig(parallelism=parallelism), replicas=5)
    change(sim, "v2")
    sim.think()
    assert versions(sim).count(2) == at_once
    running = [task for task in sim.live("web") if task.state == TaskState.RUNNING]
    assert len(running) == 5 - at_once


def test_a_failure_pauses_the_update_with_swarms_sentence_and_nothing_more_is_replaced() -> None:
    sim = an_update(UpdateConfig())
    change(sim, "bad")
    sim.settle()
    (failed,) = status(sim).failed_tasks
    assert sim.task(failed).state == TaskState.REJECTED
    assert status(sim).state == UpdateState.PAUSED
    assert status(sim).message == f"update paused due to failure or early termination of task {failed}"
    sim.advance(120)
    assert versions(sim)[-2:] == [1, 1]
    change(sim, "v3")
    sim.advance(60)
    assert versions(sim) == [3, 3, 3]
    assert status(sim).state == UpdateState.COMPLETED


def test_while_an_update_is_paused_a_task_of_the_old_version_is_followed_by_one_of_the_old_version() -> None:
    sim = an_update(UpdateConfig())
    change(sim, "bad")
    sim.settle()
    old = sim.live("web")[-1]
    sim.fail(old.id)
    sim.advance(10)
    after = next(task for task in sim.live("web") if task.slot == old.slot)
    assert (after.spec_version, after.state) == (1, TaskState.RUNNING)


def test_a_rollback_does_not_wait_for_the_restart_delay_of_what_failed() -> None:
    sim = an_update(UpdateConfig(failure_action="rollback"))
    change(sim, "bad")
    sim.settle()
    assert sim.elapsed == 0.0
    assert [task.state for task in sim.live("web")] == [TaskState.RUNNING] * 3


def test_a_failure_within_the_monitor_window_counts_and_one_after_it_does_not() -> None:
    for at, state in ((4.0, UpdateState.PAUSED), (6.0, UpdateState.UPDATING)):
        sim = an_update(UpdateConfig(delay=30.0))
        change(sim, "v2")
        sim.advance(at)
        sim.fail(sim.live("web")[0].id)
        sim.settle()
        assert status(sim).state == state


def test_the_running_time_of_a_task_survives_a_change_of_leader() -> None:
    sim = an_update(UpdateConfig(delay=30.0))
    change(sim, "v2")
    sim.advance(20)
    sim.change_leader()
    sim.fail(sim.live("web")[0].id)
    sim.settle()
    assert status(sim).state == UpdateState.UPDATING


def test_the_last_tasks_failure_within_the_final_window_counts() -> None:
    sim = an_update(UpdateConfig())
    change(sim, "v2")
    sim.advance(4)
    assert versions(sim) == [2, 2, 2]
    sim.fail(sim.live("web")[2].id)
    sim.settle()
    assert status(sim).state == UpdateState.PAUSED


def test_failures_up_to_the_ratio_are_borne() -> None:
    sim = an_update(UpdateConfig(max_failure_ratio=0.5, delay=10.0), replicas=4)
    change(sim, "v2")
    sim.settle()
    sim.fail(sim.live("web")[0].id)
    sim.settle()
    assert (status(sim).state, len(status(sim).failed_tasks)) == (UpdateState.UPDATING, 1)
    sim.advance(300)
    assert status(sim).state == UpdateState.COMPLETED
    assert versions(sim) == [2, 2, 2, 2]


def test_failed_replacements_count_as_well() -> None:
    sim = an_update(UpdateConfig(max_failure_ratio=0.5))
    change(sim, "bad")
    sim.settle()
    assert status(sim).state == UpdateState.PAUSED
    assert len(status(sim).failed_tasks) >= 2
    assert len({sim.task(task_id).slot for task_id in status(sim).failed_tasks}) == 2


def test_continue_goes_through_all_slots_whatever_fails() -> None:
    sim = an_update(UpdateConfig(failure_action="continue"))
    change(sim, "bad")
    sim.advance(60)
    assert status(sim).state == UpdateState.COMPLETED
    assert {t.spec_version for t in sim.tasks("web") if t.desired_state <= TaskState.RUNNING} == {2}


def test_a_failure_rolls_back_to_the_previous_spec_and_leaves_alone_what_was_not_reached() -> None:
    sim = an_update(UpdateConfig(failure_action="rollback"))
    before = {task.id for task in sim.live("web")}
    change(sim, "bad")
    sim.settle()
    failed = next(task.id for task in sim.tasks("web") if task.state == TaskState.REJECTED)
    service = sim.service("web")
    assert (service.spec_version, service.spec.template.container.image) == (1, "v1")
    assert service.previous_spec is None
    assert status(sim).state == UpdateState.ROLLBACK_STARTED
    assert status(sim).message == f"update rolled back due to failure or early termination of task {failed}"
    sim.advance(60)
    assert (status(sim).state, status(sim).message) == (UpdateState.ROLLBACK_COMPLETED, "rollback completed")
    assert versions(sim) == [1, 1, 1]
    assert len(before & {task.id for task in sim.live("web")}) == 2


def test_a_rollback_that_fails_is_paused_and_never_rolled_back() -> None:
    config = UpdateConfig(failure_action="rollback")
    sim = an_update(config, rollback=config)
    sim.broken.add("v1")
    change(sim, "bad", rollback=config)
    sim.advance(120)
    assert status(sim).state == UpdateState.ROLLBACK_PAUSED
    assert sim.service("web").spec_version == 1


def test_without_a_previous_spec_a_failed_update_pauses_instead_of_rolling_back() -> None:
    sim = an_update(UpdateConfig(failure_action="rollback"))
    change(sim, "bad")
    service = sim.service("web")
    sim.put(replace(service, previous_spec=None))
    sim.settle()
    assert status(sim).state == UpdateState.PAUSED


@pytest.mark.parametrize("gone", ["network", "secret"])
def test_an_update_that_fails_is_paused_in_words_when_what_it_came_from_was_removed(gone: str) -> None:
    sim = a_swarm()
    sim.broken.add("bad")
    old = a_service(replicas=3)
    if gone == "network":
        sim.put(Network(id="gone", name="blue", subnets=(SubnetSpec(subnet="10.0.0.0/24"),)))
        networks = (NetworkAttachment(target="gone"),)
        old = replace(old, template=replace(old.template, networks=networks))
    else:
        sim.put(Secret(id="gone", name="cert"))
        old = replace(old, ports=(PortSpec(target=80, published=443, path="/", tls="gone"),))
    sim.create(old)
    sim.settle()
    sim.update("web", a_service(image="bad", replicas=3, update=UpdateConfig(failure_action="rollback")))
    kind: type[Row] = Network if gone == "network" else Secret
    row = sim.store.get(kind, "gone")
    assert row is not None
    assert not sim.commit([Delete(kind, "gone", row.version)]).error_kind
    sim.advance(60)
    assert status(sim).state == UpdateState.PAUSED
    assert f"cannot be rolled back: {gone} gone, which the previous spec names" in status(sim).message
    assert versions(sim) == [1, 1]
    assert sim.service("web").spec.template.container.image == "bad"


def test_a_rollback_follows_the_rollback_configuration() -> None:
    sim = an_update(UpdateConfig(failure_action="rollback"), rollback=UpdateConfig(parallelism=0))
    change(sim, "bad", rollback=UpdateConfig(parallelism=0))
    sim.settle()
    assert versions(sim) == [1, 1, 1]


def test_a_task_that_completes_is_an_early_end_only_if_it_was_to_run_for_ever() -> None:
    for condition, state in (("any", UpdateState.PAUSED), ("on-failure", UpdateState.UPDATING)):
        sim = an_update(UpdateConfig(delay=3.0))
        change(sim, "v2", restart=RestartPolicy(condition=condition))
        sim.settle()
        sim.report(sim.live("web")[0].id, TaskState.COMPLETE)
        sim.settle()
        assert status(sim).state == state


def test_an_update_interrupted_by_another_goes_on_with_the_newest() -> None:
    sim = an_update(UpdateConfig(delay=5.0))
    change(sim, "v2")
    sim.advance(6)
    assert versions(sim) == [2, 2, 1]
    change(sim, "v3")
    sim.advance(60)
    assert versions(sim) == [3, 3, 3]


def test_a_failing_start_first_update_leaves_the_old_task_running() -> None:
    sim = an_update(UpdateConfig(order="start-first"))
    before = [task.id for task in sim.live("web")]
    change(sim, "bad")
    sim.advance(60)
    assert status(sim).state == UpdateState.PAUSED
    assert [task.id for task in sim.live("web")] == before


def test_start_first_under_continue_tries_again_after_the_restart_delay() -> None:
    sim = an_update(UpdateConfig(order="start-first", failure_action="continue"), replicas=1)
    (old,) = sim.live("web")
    change(sim, "bad")
    sim.advance(12)
    attempts = [task for task in sim.tasks("web") if task.spec_version == 2]
    assert 3 <= len(attempts) <= 4
    assert sim.task(old.id).state == TaskState.RUNNING


def test_start_first_gives_a_slot_up_when_its_attempts_are_exhausted() -> None:
    policy = RestartPolicy(max_attempts=1)
    sim = an_update(UpdateConfig(order="start-first", failure_action="continue"), replicas=2)
    before = [task.id for task in sim.live("web")]
    change(sim, "bad", restart=policy)
    sim.advance(120)
    assert [task.id for task in sim.live("web")] == before
    assert status(sim).state == UpdateState.COMPLETED
    assert len([task for task in sim.tasks("web") if task.spec_version == 2]) == 4


def test_a_global_service_is_updated_node_by_node_and_paused_nodes_are_spared() -> None:
    sim = a_swarm()
    sim.create(a_service(mode="global"))
    sim.settle()
    sim.set_availability("n2", Availability.PAUSE)
    sim.update("web", a_service(image="v2", mode="global"))
    sim.think()
    assert versions(sim) == [2, 1, 1]
    sim.advance(60)
    assert versions(sim) == [2, 1, 2]
    assert status(sim).state == UpdateState.COMPLETED
    sim.set_availability("n2", Availability.ACTIVE)
    sim.advance(60)
    assert versions(sim) == [2, 2, 2]


def test_slots_at_rest_are_updated_too() -> None:
    sim = an_update(UpdateConfig(), replicas=1, restart=RestartPolicy(condition="none"))
    sim.report(sim.live("web")[0].id, TaskState.COMPLETE)
    sim.settle()
    change(sim, "v2", restart=RestartPolicy(condition="none"))
    sim.advance(60)
    assert [(task.spec_version, task.state) for task in sim.live("web")] == [(2, TaskState.RUNNING)]


def test_what_does_not_run_is_replaced_before_what_serves() -> None:
    sim = an_update(UpdateConfig())
    third = sim.live("web")[2]
    sim.fail(third.id)
    sim.settle()
    change(sim, "v2")
    sim.think()
    assert versions(sim) == [1, 1, 2]


def a_version(spec: ServiceSpec, number: int) -> SpecVersion:
    return SpecVersion(
        id=f"web.{number}", service_id="web", number=number, template=spec.template, ports=spec.ports
    )


def test_an_automatic_rollback_takes_the_old_version_up_again_and_keeps_no_way_back() -> None:
    one, two = a_service(image="v1"), a_service(image="v2")
    service = Service(id="web", spec=two, spec_version=7, previous_spec=one)
    back, version = rolled_back(service, [a_version(one, 6), a_version(two, 7)], 5.0, failed_task="t1")
    assert (back.spec, back.previous_spec, back.spec_version, version) == (one, None, 6, None)
    assert back.update_status == UpdateStatus(
        state=UpdateState.ROLLBACK_STARTED,
        started_at=5.0,
        message="update rolled back due to failure or early termination of task t1",
    )


def test_a_rollback_to_a_version_whose_row_is_gone_makes_a_new_one() -> None:
    one, two = a_service(image="v1"), a_service(image="v2")
    service = Service(id="web", spec=two, spec_version=7, previous_spec=one)
    back, version = rolled_back(service, [a_version(two, 7)], 5.0, failed_task="t1")
    assert back.spec_version == 8
    assert version is not None
    assert (version.id, version.number, version.template) == ("web.8", 8, one.template)


def test_rolling_back_a_change_of_scale_makes_no_new_version() -> None:
    five, two = a_service(replicas=5), a_service(replicas=2)
    service = Service(id="web", spec=five, previous_spec=two)
    back, version = rolled_back(service, [a_version(five, 1)], 0.0, failed_task="t1")
    assert (version, back.spec_version, back.spec.replicas) == (None, 1, 2)


def test_rolling_back_a_change_of_ports_makes_one() -> None:
    new = a_service(ports=(PortSpec(target=80, published=80),))
    service = Service(id="web", spec=new, previous_spec=a_service())
    _, version = rolled_back(service, [a_version(new, 1)], 0.0, failed_task="t1")
    assert version is not None
    assert version.ports == ()


def test_there_is_no_way_back_without_a_previous_spec() -> None:
    with pytest.raises(Refused, match="service web does not have a previous spec"):
        rolled_back(Service(id="web", spec=a_service()), [], 0.0, failed_task="t1")


def test_how_tasks_of_a_version_died_before_says_nothing_when_it_is_taken_up_again() -> None:
    restart = RestartPolicy(max_attempts=1, delay=0.0)
    config = UpdateConfig(failure_action="rollback")
    sim = an_update(config, restart=restart, rollback=config)
    sim.fail(sim.live("web")[0].id)
    sim.advance(1)
    change(sim, "bad", restart=restart, rollback=config)
    sim.advance(60)
    assert status(sim).state == UpdateState.ROLLBACK_COMPLETED
    assert versions(sim) == [1, 1, 1]


def test_when_the_old_task_dies_under_start_first_the_new_one_alone_follows_it() -> None:
    sim = an_update(UpdateConfig(order="start-first"), replicas=1)
    (old,) = sim.live("web")
    change(sim, "v2")
    sim.think()
    sim.fail(old.id)
    sim.settle()
    assert [task.spec_version for task in sim.tasks("web")] == [1, 2]
    assert [task.state for task in sim.live("web")] == [TaskState.RUNNING]


def test_an_update_that_overtakes_another_drops_what_that_had_not_finished_before_it_starts_more() -> None:
    sim = an_update(UpdateConfig(order="start-first"))
    change(sim, "v2")
    sim.think()
    assert versions(sim) == [1, 2, 1, 1]
    change(sim, "v3")
    sim.think()
    assert sorted(versions(sim)) == [1, 1, 1, 3]
