from __future__ import annotations

from swarmd.manager.orchestrator.core.reaper import NODE_PATIENCE
from swarmd.model.objects import Node
from swarmd.model.replace import replace
from swarmd.model.spec import RestartPolicy, UpdateConfig
from swarmd.model.states import NodeState, TaskState
from swarmd.store.core.transaction import Delete
from tests.scripts.sim import Sim, a_service, a_swarm


def crash(sim: Sim, times: int) -> None:
    for _ in range(times):
        sim.fail(sim.live("web")[0].id)
        sim.advance(6)


def a_sim(*, history: int = 5, replicas: int = 1) -> Sim:
    sim = a_swarm(nodes=2, task_history=history)
    sim.create(a_service(replicas=replicas))
    sim.settle()
    return sim


def test_a_slot_keeps_five_tasks_the_newest_ones() -> None:
    sim = a_sim()
    first = sim.tasks("web")[0]
    crash(sim, 8)
    tasks = sim.tasks("web")
    assert len(tasks) == 5
    assert tasks[-1].is_live
    assert first.id not in {task.id for task in tasks}


def test_each_slot_has_its_own_history() -> None:
    sim = a_sim(replicas=2)
    other = sim.live("web")[1]
    crash(sim, 8)
    assert sim.task(other.id).is_live


def test_a_history_of_zero_keeps_the_live_task_only() -> None:
    sim = a_sim(history=0)
    crash(sim, 3)
    assert [task.state for task in sim.tasks("web")] == [TaskState.RUNNING]


def test_a_negative_history_keeps_everything() -> None:
    sim = a_sim(history=-1)
    crash(sim, 8)
    assert len(sim.tasks("web")) == 9


def test_a_changed_history_limit_takes_effect_at_once() -> None:
    sim = a_sim()
    crash(sim, 6)
    cluster = sim.store.cluster()
    assert cluster is not None
    sim.put(replace(cluster, spec=replace(cluster.spec, task_history=2)))
    sim.settle()
    assert len(sim.tasks("web")) == 2


def test_a_task_that_never_got_a_node_is_deleted_when_it_is_removed() -> None:
    sim = a_swarm(nodes=0)
    sim.create(a_service(replicas=2))
    sim.settle()
    sim.update("web", a_service(replicas=1))
    sim.settle()
    assert len(sim.tasks("web")) == 1


def test_a_removed_task_on_a_dead_node_is_deleted_after_a_day() -> None:
    sim = a_sim(replicas=2)
    sim.set_node("n2", NodeState.DOWN)
    sim.settle()
    sim.remove("web")
    sim.settle()
    (lost,) = sim.tasks("web")
    assert (lost.node_id, lost.state) == ("n2", TaskState.RUNNING)
    sim.advance(NODE_PATIENCE - 1)
    assert len(sim.tasks("web")) == 1
    sim.advance(1)
    assert sim.tasks("web") == []


def test_a_removed_task_is_deleted_with_its_node() -> None:
    sim = a_sim(replicas=2)
    sim.set_node("n2", NodeState.DOWN)
    sim.settle()
    sim.remove("web")
    sim.settle()
    node = sim.node("n2")
    assert not sim.commit([Delete(Node, node.id, node.version)]).error_kind
    sim.settle()
    assert sim.tasks("web") == []


def test_a_removed_task_that_still_runs_is_kept() -> None:
    sim = a_sim()
    sim.remove("web")
    sim.think()
    assert [task.state for task in sim.tasks("web")] == [TaskState.RUNNING]


def test_spec_versions_nobody_names_go_but_the_newest_ten_stay() -> None:
    sim = a_sim(history=0)
    for number in range(2, 15):
        sim.update("web", a_service(image=f"v{number}", update=UpdateConfig(monitor=0.0)))
        sim.advance(1)
    numbers = sorted(version.number for version in sim.store.spec_versions_of("web"))
    assert numbers == list(range(5, 15))


def test_a_spec_version_that_an_old_task_names_stays() -> None:
    sim = a_sim(history=-1)
    for number in range(2, 15):
        sim.update("web", a_service(image=f"v{number}", update=UpdateConfig(monitor=0.0)))
        sim.advance(1)
    numbers = sorted(version.number for version in sim.store.spec_versions_of("web"))
    assert numbers == list(range(1, 15))


def test_the_last_task_of_a_slot_at_rest_stays_whatever_the_history_is() -> None:
    sim = a_swarm(task_history=0)
    sim.create(a_service(restart=RestartPolicy(condition="none")))
    sim.settle()
    (task,) = sim.live("web")
    sim.fail(task.id)
    sim.advance(60)
    assert [one.id for one in sim.tasks("web")] == [task.id]
