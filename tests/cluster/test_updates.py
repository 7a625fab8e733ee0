"""Updates and rollbacks of a running service, as its visitors and its operator see them."""

from __future__ import annotations

import pytest

from tests.cluster.lab import Lab
from tests.cluster.visitor import Visitor
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

QUICK = ("--update-monitor", "1s", "--rollback-monitor", "1s")


def _serving(lab: Lab, replicas: int, *words: str) -> None:
    """The service ``web`` on port 80, answering everywhere."""
    lab.create("web", "--publish", "80:80", "--replicas", str(replicas), *QUICK, *words)
    lab.until_running("web", replicas)
    lab.until_answered(80)


@pytest.mark.parametrize(
    "asked",
    [["node3"], ["node1", "node2", "node3"]],
    ids=["at one node", "at every node in turn"],
)
def test_a_rolling_update_fails_no_request(lab: Lab, asked: list[str]) -> None:
    _serving(lab, 4)
    with Visitor(lab, 80, asked) as visitor:
        eventually("the visitor is served", lambda: len(visitor.images), lambda count: count >= 20)
        done = lab.on(
            "node1",
            *("service", "update", "--image", "nginx:1.13", "--update-parallelism", "2"),
            *("--update-delay", "1s", "web"),
        )
        assert done.code == 0, done
        eventually("the visitor sees the new version", lambda: "nginx:1.13" in visitor.images)
    assert "converged" in done.out
    assert {task.image for task in lab.running("web")} == {"nginx:1.13"}
    assert visitor.failures == [], f"{len(visitor.failures)} of {len(visitor.images)} requests failed"
    assert set(visitor.images) == {"nginx:1.12", "nginx:1.13"}


def test_start_first_keeps_even_a_single_replica_reachable(lab: Lab) -> None:
    _serving(lab, 1, "--update-order", "start-first")
    with Visitor(lab, 80, ["node2"]) as visitor:
        eventually("the visitor is served", lambda: len(visitor.images), lambda count: count >= 20)
        lab.ask("service", "update", "--image", "nginx:1.13", "web")
        eventually("the visitor sees the new version", lambda: "nginx:1.13" in visitor.images)
    assert visitor.failures == [], f"{len(visitor.failures)} of {len(visitor.images)} requests failed"


def test_the_history_of_a_slot_is_listed_below_its_newest_task(lab: Lab) -> None:
    _serving(lab, 2)
    lab.ask("service", "update", "--detach", "--image", "nginx:1.13", "web")
    eventually(
        "the old tasks are seen to have ended",
        lambda: [(task.name, task.image, task.desired, task.state) for task in lab.tasks("web")],
        lambda rows: (
            rows
            == [
                ("web.1", "nginx:1.13", "Running", "Running"),
                (" \\_ web.1", "nginx:1.12", "Shutdown", "Shutdown"),
                ("web.2", "nginx:1.13", "Running", "Running"),
                (" \\_ web.2", "nginx:1.12", "Shutdown", "Shutdown"),
            ]
        ),
    )


def test_an_image_nobody_has_pauses_the_update_and_the_rest_serves_on(lab: Lab) -> None:
    _serving(lab, 3)
    with Visitor(lab, 80, ["node2"]) as visitor:
        done = lab.on("node1", "service", "update", "--image", "nginx:nope", "web")
        assert done.code == 1, done
        assert "service update paused: update paused due to failure or early termination of task" in done.err
        assert lab.update_state("web") == "paused"
    assert visitor.failures == []
    assert {task.image for task in lab.running("web")} == {"nginx:1.12"}
    errors = [
        task.error for task in lab.tasks("web") if (task.image, task.state) == ("nginx:nope", "Rejected")
    ]
    assert errors
    assert all("No such image: nginx:nope" in error for error in errors)
    lab.ask("service", "update", "--image", "nginx:1.13", "web")
    lab.until_running("web", 3, image="nginx:1.13")
    eventually("the update is over", lambda: lab.update_state("web"), lambda state: state == "completed")


def test_a_program_that_ends_at_once_rolls_the_update_back_by_itself(lab: Lab) -> None:
    _serving(lab, 3, "--update-failure-action", "rollback", "--restart-delay", "200ms")
    with Visitor(lab, 80, ["node1", "node2", "node3"]) as visitor:
        done = lab.on("node1", "service", "update", "--entrypoint", "/bin/false", "web")
        eventually(
            "it is rolled back", lambda: lab.update_state("web"), lambda state: state == "rollback_completed"
        )
    assert "rollback" in done.out + done.err
    lab.until_running("web", 3)
    failed = [task for task in lab.tasks("web") if task.state == "Failed"]
    assert failed
    assert all("non-zero exit (1)" in task.error for task in failed)
    assert visitor.failures == []
    entrypoint = "{{json .Spec.TaskTemplate.ContainerSpec}}"
    assert "/bin/false" not in lab.ask("service", "inspect", "--format", entrypoint, "web")


def test_a_rollback_leaves_tasks_alone_that_were_never_updated(lab: Lab) -> None:
    _serving(lab, 3, "--update-failure-action", "rollback")
    before = {task.id for task in lab.running("web")}
    lab.ask("service", "update", "--detach", "--image", "nginx:nope", "web")
    eventually(
        "it is rolled back", lambda: lab.update_state("web"), lambda state: state == "rollback_completed"
    )
    after = {task.id for task in lab.until_running("web", 3, image="nginx:1.12")}
    assert len(before & after) == 2


def test_failures_are_passed_over_when_the_action_is_continue(lab: Lab) -> None:
    _serving(lab, 2, "--update-failure-action", "continue", "--restart-condition", "none")
    lab.ask("service", "update", "--detach", "--image", "nginx:nope", "web")
    eventually("the update is over", lambda: lab.update_state("web"), lambda state: state == "completed")
    assert lab.running("web") == []


def test_a_ratio_of_failures_is_put_up_with(lab: Lab) -> None:
    _serving(lab, 4, "--update-max-failure-ratio", "1", "--restart-condition", "none")
    lab.ask("service", "update", "--detach", "--image", "nginx:nope", "web")
    eventually("the update is over", lambda: lab.update_state("web"), lambda state: state == "completed")


def test_a_rollback_goes_back_and_a_second_one_comes_forward_again(lab: Lab) -> None:
    _serving(lab, 2)
    sentence = lab.refusal("service", "rollback", "web")
    assert "previous spec" in sentence
    lab.ask("service", "update", "--detach", "--image", "nginx:1.13", "web")
    lab.until_running("web", 2, image="nginx:1.13")
    lab.ask("service", "rollback", "--detach", "web")
    lab.until_running("web", 2, image="nginx:1.12")
    eventually("it is over", lambda: lab.update_state("web"), lambda state: state == "rollback_completed")
    assert lab.get("node3", 80).image == "nginx:1.12"
    lab.ask("service", "update", "--detach", "--rollback", "web")
    lab.until_running("web", 2, image="nginx:1.13")


def test_a_change_that_no_container_can_see_restarts_none(lab: Lab) -> None:
    _serving(lab, 2)
    before = sorted(task.id for task in lab.running("web"))
    lab.ask("service", "update", "--detach", "--label-add", "team=red", "web")
    lab.ask("service", "update", "--detach", "--update-delay", "3s", "web")
    lab.ask("service", "scale", "--detach", "web=3")
    after = [task.id for task in lab.until_running("web", 3)]
    assert set(before) < set(after)
    assert len(lab.tasks("web")) == 3


def test_a_port_is_changed_by_an_update(lab: Lab) -> None:
    _serving(lab, 2)
    lab.ask("service", "update", "--detach", "--publish-rm", "80", "--publish-add", "8081:80", "web")
    lab.until_answered(8081)
    for node in lab.nodes:
        eventually(f"{node} refuses the old port", lambda node=node: lab.refuses(node, 80))  # type: ignore[misc]
