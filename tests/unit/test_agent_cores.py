"""What the agent decides: the next step, the next status, what is still to be told, a container's shape."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid
from swarmd.model.objects import TaskStatus
from swarmd.model.spec import ContainerSpec, MountSpec, PortSpec, Resources, TaskTemplate
from swarmd.model.states import TaskState
from swarmd.node.agent.core import container, mounts
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.core.mounts import Source
from swarmd.node.agent.core.record import TaskRecord, decode, encode
from swarmd.node.agent.core.remotes import Remote, Remotes
from swarmd.node.agent.core.reporter import Reporter
from swarmd.node.agent.core.steps import (
    Container,
    Step,
    advance,
    broken,
    ended,
    failed,
    next_step,
    resumed,
    stopped,
)
from swarmd.node.runtime.port import ContainerConfig, Limits

STATES = st.sampled_from(list(TaskState))
RESULT = {
    Step.ACCEPT: TaskState.ACCEPTED,
    Step.PREPARE: TaskState.READY,
    Step.START: TaskState.RUNNING,
    Step.STOP: TaskState.SHUTDOWN,
    Step.WATCH: TaskState.COMPLETE,
}


def at(state: TaskState, **fields: object) -> TaskStatus:
    return TaskStatus(state=state, **fields)  # type: ignore[arg-type]


# -- steps ----------------------------------------------------------------------------------------


@given(state=STATES, desired=STATES)
def test_from_any_state_with_anything_wanted_the_steps_come_to_an_end(
    state: TaskState, desired: TaskState
) -> None:
    for _ in range(6):
        step = next_step(state, desired)
        if step in (Step.DONE, Step.HOLD):
            break
        assert RESULT[step] > state, "each step leads to a later state"
        state = RESULT[step]
    else:
        pytest.fail("the steps do not end")
    assert state.is_terminal or (state is TaskState.READY and desired < TaskState.RUNNING)


@given(state=STATES.filter(lambda state: not state.is_terminal), desired=STATES)
def test_what_is_not_wanted_any_more_is_stopped_and_nothing_else(
    state: TaskState, desired: TaskState
) -> None:
    assert (next_step(state, desired) is Step.STOP) == (desired > TaskState.RUNNING)


@given(state=STATES, target=STATES)
def test_a_status_never_goes_back(state: TaskState, target: TaskState) -> None:
    before = at(state)
    assert advance(before, target, at=1.0, message="m").state is max(state, target)
    for after in (
        ended(before, 1, at=1.0, oom_killed=False),
        ended(before, 0, at=1.0, oom_killed=False),
        stopped(before, None, at=1.0),
        failed(before, "e", at=1.0),
        broken(before, "e", at=1.0),
    ):
        assert after.state >= state


def test_an_end_by_itself_is_complete_only_with_exit_code_0() -> None:
    running = at(TaskState.RUNNING, pid=9, address="10.128.1.2", container_id="t1")
    good = ended(running, 0, at=5.0, oom_killed=False)
    assert (good.state, good.exit_code, good.at, good.error) == (TaskState.COMPLETE, 0, 5.0, "")
    assert (good.pid, good.address, good.container_id) == (0, "", "t1")
    bad = ended(running, 0, at=5.0, oom_killed=True)
    assert bad.state is TaskState.FAILED
    assert "out of memory" in bad.error


def test_what_fails_before_its_start_is_rejected_and_what_fails_in_it_has_failed() -> None:
    assert failed(at(TaskState.PREPARING), "e", at=1.0).state is TaskState.REJECTED
    late = failed(at(TaskState.STARTING, pid=9, address="10.128.1.2"), "e", at=1.0)
    assert (late.state, late.error, late.pid, late.address) == (TaskState.FAILED, "e", 0, "")


@pytest.mark.parametrize(
    ("container_id", "found", "state"),
    [
        ("", Container.NONE, TaskState.READY),
        ("", Container.CREATED, TaskState.READY),
        ("t1", Container.NONE, TaskState.READY),
        ("t1", Container.CREATED, TaskState.READY),
        ("t1", Container.STARTED, TaskState.STARTING),
    ],
)
def test_a_start_that_was_cut_off_begins_again_unless_the_program_ran(
    container_id: str, found: Container, state: TaskState
) -> None:
    status = at(TaskState.STARTING, container_id=container_id, address="10.128.1.2", pid=3)
    assert resumed(status, found).state is state


@given(state=STATES.filter(lambda state: state is not TaskState.STARTING), found=st.sampled_from(Container))
def test_every_other_state_goes_on_as_it_is(state: TaskState, found: Container) -> None:
    assert resumed(at(state), found) == at(state)


# -- reporter -------------------------------------------------------------------------------------


@given(
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("note"), st.sampled_from("abc"), STATES),
            st.tuples(st.just("forget"), st.sampled_from("abc"), STATES),
            st.tuples(st.sampled_from(["send", "ack", "restart"]), st.just(""), st.just(TaskState.NEW)),
        ),
        max_size=40,
    )
)
def test_whatever_happens_the_managers_know_the_newest_of_each_task_in_the_end(
    acts: list[tuple[str, str, TaskState]],
) -> None:
    reporter = Reporter()
    newest: dict[str, TaskStatus] = {}
    told: dict[str, TaskStatus] = {}
    sent: tuple[int, dict[str, TaskStatus]] | None = None
    for what, task, state in (*acts, ("restart", "", TaskState.NEW)):
        if what == "note":
            newest[task] = at(state)
            reporter.note(task, newest[task])
        elif what == "forget":
            newest.pop(task, None)
            reporter.forget(task)
        elif what == "restart":
            reporter.restart()
            sent = None
        elif what == "send" and sent is None:
            sent = reporter.batch()
        elif what == "ack" and sent is not None:
            assert reporter.batch() is None, "one batch at a time"
            reporter.acknowledged(sent[0])
            told |= sent[1]
            sent = None
    while (batch := reporter.batch(limit=2)) is not None:
        assert 1 <= len(batch[1]) <= 2
        told |= batch[1]
        reporter.acknowledged(batch[0])
    assert {task: told[task] for task in newest} == newest


def test_what_is_acknowledged_and_unchanged_is_not_told_again() -> None:
    reporter = Reporter()
    reporter.note("a", at(TaskState.READY))
    batch = reporter.batch()
    assert batch is not None
    reporter.acknowledged(batch[0])
    reporter.note("a", at(TaskState.READY))
    assert reporter.batch() is None


# -- remotes --------------------------------------------------------------------------------------


@given(count=st.integers(1, 5), leader=st.integers(0, 9))
def test_with_every_manager_failing_each_is_tried_in_turn(count: int, leader: int) -> None:
    remotes = Remotes(Remote(str(index), f"10.0.0.{index}") for index in range(count))
    remotes.leads(Remote(str(leader), f"10.0.0.{leader}"))
    tried = []
    for _ in range(count):
        remote = remotes.next()
        assert remote is not None
        tried.append(remote.node_id)
        remotes.failed()
    assert sorted(tried) == [str(index) for index in range(count)]
    if leader < count:
        assert tried[0] == str(leader)


def test_a_manager_that_is_behind_makes_nobody_forget_where_the_others_are() -> None:
    """Its store shows the addresses from before they moved, while it reads its log."""
    now = [Remote("a", "10.0.0.21"), Remote("b", "10.0.0.22"), Remote("c", "10.0.0.23")]
    before = [Remote("a", "10.0.0.1"), Remote("b", "10.0.0.2"), Remote("c", "10.0.0.3")]
    for leader in (None, before[1]):
        remotes, tried = Remotes(now), set[Remote]()
        for _ in range(20):
            remote = remotes.next()
            assert remote is not None
            tried.add(remote)
            if remote == now[0]:  # only this one answers, and it is behind
                remotes.hint(before, leader)
                if leader is None:
                    remotes.failed()
            else:
                remotes.failed()
        assert set(now) <= tried
    assert len(remotes.known) == 6, "however often it said so"
    remotes.learn(now)
    assert list(remotes.known) == now


def test_a_leader_that_was_named_is_tried_where_it_was_said_to_be() -> None:
    remotes = Remotes([Remote("a", "10.0.0.1"), Remote("b", "10.0.0.2")])
    assert remotes.next() == Remote("a", "10.0.0.1")
    remotes.hint([Remote("a", "10.0.0.1"), Remote("b", "10.0.0.9")], Remote("b", "10.0.0.9"))
    assert remotes.next() == Remote("b", "10.0.0.9")


def test_an_empty_answer_teaches_nothing() -> None:
    remotes = Remotes([Remote("a", "10.0.0.1")])
    assert not remotes.learn([])
    assert not remotes.learn([Remote("a", "10.0.0.1")])
    assert remotes.learn([Remote("b", "10.0.0.2")])
    assert [remote.node_id for remote in remotes.known] == ["b"]
    assert Remotes([]).next() is None


# -- record and container -------------------------------------------------------------------------


def record(container_spec: ContainerSpec = ContainerSpec(image="demo:1"), slot: int = 2) -> TaskRecord:  # noqa: B008
    return TaskRecord(
        task_id="t" * 25,
        service_id="s1",
        service_name="web",
        spec_version=3,
        slot=slot,
        node_id="node1",
        desired=TaskState.RUNNING,
        template=TaskTemplate(
            container=container_spec, limits=Resources(memory=1 << 20, nano_cpus=5, pids=7)
        ),
        ports=(PortSpec(target=80), PortSpec(protocol="udp", target=53)),
    )


def made(spec: ContainerSpec, image: ImageConfig = ImageConfig(cmd=("/bin/demo",))) -> ContainerConfig:  # noqa: B008
    facts = NodeFacts("node1", "host", "nameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch lan\n")
    wanted = mounts.wanted(spec.mounts, image)
    sources = {
        mount.target: Source(mount.source if mount.kind == "bind" else f"/volumes/{mount.source}")
        for mount in wanted
    }
    asked = container.asked(record(spec), wanted, facts)
    return container.config(asked, image, ("/layer",), facts, sources)


def test_a_record_is_read_as_it_was_written_and_garbage_is_refused() -> None:
    assert decode(encode(record())) == record()
    with pytest.raises(msgspec.DecodeError):
        decode(b"\xc1garbage")
    assert record().name == f"web.2.{'t' * 25}"
    assert record(slot=0).name == f"web.node1.{'t' * 25}"


@pytest.mark.parametrize(
    ("command", "args", "entrypoint", "cmd", "result"),
    [
        ((), (), (), ("c",), ("c",)),
        ((), (), ("e",), ("c",), ("e", "c")),
        ((), ("a",), ("e",), ("c",), ("e", "a")),
        (("x",), (), ("e",), ("c",), ("x",)),
        (("x",), ("a",), ("e",), ("c",), ("x", "a")),
    ],
)
def test_command_and_arguments_replace_entrypoint_and_default_arguments(
    command: tuple[str, ...],
    args: tuple[str, ...],
    entrypoint: tuple[str, ...],
    cmd: tuple[str, ...],
    result: tuple[str, ...],
) -> None:
    config = made(ContainerSpec(command=command, args=args), ImageConfig(entrypoint=entrypoint, cmd=cmd))
    assert config.args == result


def test_a_service_without_anything_to_run_is_refused_in_words() -> None:
    with pytest.raises(Invalid, match="no command specified"):
        made(ContainerSpec(), ImageConfig())


def test_the_spec_comes_over_the_image_and_limits_and_labels_are_set() -> None:
    image = ImageConfig(
        cmd=("/bin/demo",), env=("A=image", "B=image"), user="web", workdir="/srv", stop_signal="SIGQUIT"
    )
    config = made(ContainerSpec(env=("A=spec",), labels={"x": "y"}), image)
    assert {"A=spec", "B=image", f"HOSTNAME={'t' * 12}"} < set(config.env)
    assert (config.user, config.cwd, config.stop_signal) == ("web", "/srv", "SIGQUIT")
    assert config.limits == Limits(memory=1 << 20, nano_cpus=5, pids=7)
    assert config.labels["x"] == "y"
    assert config.labels["com.docker.swarm.service.name"] == "web"
    over = made(ContainerSpec(user="1", workdir="/w", stop_signal="SIGINT", hostname="h"), image)
    assert (over.user, over.cwd, over.stop_signal, over.hostname) == ("1", "/w", "SIGINT", "h")


def test_mounts_lead_to_volumes_host_paths_and_memory() -> None:
    wanted = (
        MountSpec(source="data", target="/v"),
        MountSpec(kind="bind", source="/host", target="/b", readonly=True),
        MountSpec(kind="tmpfs", target="/t", tmpfs_size=4096, tmpfs_mode=0o700),
    )
    volume, bind, tmpfs = made(ContainerSpec(mounts=wanted)).mounts
    assert (volume.kind, volume.source, volume.target) == ("volume", "/volumes/data", "/v")
    assert (bind.kind, bind.source, bind.readonly) == ("bind", "/host", True)
    assert (tmpfs.kind, tmpfs.size, tmpfs.mode) == ("tmpfs", 4096, 0o700)
    assert mounts.bind_sources(wanted, create=False) == ("/host",)


def test_a_resolver_that_only_the_node_reaches_is_left_out() -> None:
    assert made(ContainerSpec()).files.resolv_conf == "nameserver 192.0.2.1\nsearch lan\n"


def test_only_tcp_ports_must_listen() -> None:
    assert container.tcp_targets(record()) == (80,)
