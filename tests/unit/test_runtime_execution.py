"""What is executed in a container is decided from the container's own config and what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from swarmd.model.errors import Invalid, Refused
from swarmd.node.runtime.core.execution import check, check_size, compile_exec
from swarmd.node.runtime.core.exits import StartFailed
from swarmd.node.runtime.core.facts import HostFacts
from swarmd.node.runtime.core.failures import exec_failure_of
from swarmd.node.runtime.port import ContainerConfig
from swarmd.node.runtime.sessions import ExecConfig, RunTimeout, Size, run

CONFIG = ContainerConfig(
    id="box", lower_dirs=("/image",), args=("sleep", "1"), env=("A=1", "B=2"), cwd="/work", user="web",
    groups=("audio",), hostname="box", no_new_privileges=True, oom_score_adj=100, init=True,
)  # fmt: skip
FACTS = HostFacts(init_path="/usr/bin/tini-static", grantable=(1 << 41) - 1)


def steps(config: ContainerConfig = CONFIG, **fields: Any) -> dict[str, tuple[Any, ...]]:
    fields.setdefault("args", ("id", "-u"))
    plan = compile_exec(config, ExecConfig(**fields), FACTS, procs=("/cg/cgroup.procs",), seccomp=b"filter")
    assert len({step[0] for step in plan}) == len(plan)
    return {step[0]: step[1:] for step in plan}


def test_it_is_the_containers_in_everything_that_was_not_asked_for() -> None:
    plan = steps()
    assert plan["oom_score_adj"] == (100,)
    assert plan["user"] == ("web", ["audio"])
    assert plan["chdir"] == ("/work",)
    assert plan["seccomp"][0] == b"filter"
    args, env = plan["exec"]
    assert args == ["id", "-u"]  # without the container's init
    assert {name: env[name] for name in ("A", "B", "HOSTNAME")} == {"A": "1", "B": "2", "HOSTNAME": "box"}
    assert "TERM" not in env
    assert "terminal" not in plan


def test_what_is_asked_for_is_laid_over_it() -> None:
    plan = steps(env=("B=3", "C=4=5"), cwd="/tmp", user="0", groups=("video",), tty=True, size=Size(3, 4))
    _, env = plan["exec"]
    assert [env[name] for name in ("A", "B", "C", "TERM")] == ["1", "3", "4=5", "xterm"]
    assert (plan["chdir"], plan["user"]) == (("/tmp",), ("0", ["audio", "video"]))
    assert plan["terminal"] == (3, 4)
    assert steps(tty=True, env=("TERM=vt100",))["exec"][1]["TERM"] == "vt100"


def test_the_order_is_safe() -> None:
    """Limits and cgroups while the host is in sight, rights before the program is looked for."""
    names = list(steps(tty=True))
    assert names == [
        "oom_score_adj", "enter_container", "terminal", "user", "bounding", "identity", "chdir", "program",
        "no_new_privs", "seccomp", "exec",
    ]  # fmt: skip


def test_privileged_gives_every_capability_and_keeps_the_filter() -> None:
    assert steps()["bounding"] != steps(privileged=True)["bounding"] == ((1 << 41) - 1,)
    assert steps(privileged=True)["seccomp"][0] == b"filter"


def test_a_group_of_its_own_looks_like_the_containers() -> None:
    assert steps()["enter_container"] == (["/cg/cgroup.procs"], False)
    assert steps(own_group=True)["enter_container"][1] is True


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"args": ()}, "no command"),
        ({"args": ("",)}, "no command"),
        ({"cwd": "here"}, "absolute"),
        ({"env": ("NAME",)}, "NAME=value"),
        ({"user": "a\0b"}, "zero byte"),
        ({"size": Size(-1, 3)}, "terminal size"),
    ],
)
def test_what_can_never_run_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        check(ExecConfig(**{"args": ("true",), **fields}))


def test_a_size_has_bounds() -> None:
    check_size(Size(0, 65535))
    with pytest.raises(Invalid, match="0 to 65535"):
        check_size(Size(1, 65536))


def test_failures_are_told_apart() -> None:
    assert isinstance(exec_failure_of("clone", "", 3, "gone"), Refused)
    assert isinstance(exec_failure_of("enter_container", "", 3, "gone"), Refused)
    user = exec_failure_of("user", "", 22, "unable to find user x")
    assert isinstance(user, StartFailed)
    assert (user.exit_code, str(user)) == (126, "unable to find user x")


class Scripted:
    """A session that gives its pieces, then ends after a while; remembers how it was let go of."""

    def __init__(self, pieces: list[bytes], *, ends: bool, holds_output: bool = False) -> None:
        self._pieces = pieces
        self._ends = ends
        self._holds_output = holds_output
        self.killed: bool | None = None
        self.config: ExecConfig | None = None

    async def exec(self, _: str, config: ExecConfig) -> Any:
        self.config = config
        return self

    async def read(self) -> tuple[int, bytes] | None:
        if self._pieces:
            return 1, self._pieces.pop(0)
        if self._holds_output or not self._ends:
            await asyncio.Event().wait()
        return None

    async def wait(self) -> int:
        if not self._ends:
            await asyncio.Event().wait()
        return 3

    async def close(self, *, kill: bool = False) -> None:
        self.killed = kill


@asynccontextmanager
async def limit() -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield


PROBE = ExecConfig(args=("probe",))


async def test_a_result_is_the_beginning_of_the_output() -> None:
    session = Scripted([b"abc", b"def", b"ghi"], ends=True)
    assert await run(session, "box", PROBE, limit=5, timeout=20) == (3, b"abcde")
    assert session.killed is False
    assert session.config == ExecConfig(args=("probe",), own_group=True)


async def test_who_holds_the_output_is_not_waited_for() -> None:
    async with limit():
        session = Scripted([b"abc"], ends=True, holds_output=True)
        assert await run(session, "box", PROBE, limit=5, timeout=20) == (3, b"abc")
    assert session.killed is False


async def test_one_that_takes_too_long_is_killed_and_what_it_said_is_kept() -> None:
    session = Scripted([b"abc"], ends=False)
    with pytest.raises(RunTimeout) as caught:
        await run(session, "box", PROBE, limit=5, timeout=0.5)
    assert caught.value.output == b"abc"
    assert session.killed is True


async def test_one_that_nobody_waits_for_any_more_is_killed() -> None:
    session = Scripted([], ends=False)
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await run(session, "box", PROBE, limit=5, timeout=20)
    assert not isinstance(caught.value, RunTimeout)
    assert session.killed is True
