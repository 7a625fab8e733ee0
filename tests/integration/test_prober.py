"""TCP and HTTP probes reach what listens inside a container, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.model.health import ProbeSpec
from swarmd.node.agent.core.health import Result, probe_check
from swarmd.node.agent.prober import Prober, Target
from tests.integration.runtime_rig import Rig, running, start, until_line

pytestmark = pytest.mark.root

SERVE = "mkdir /www; echo fine > /www/ready; echo up; exec busybox httpd -f -p 8080 -h /www"
SAY = "echo up; while true; do echo hello | busybox nc -l -p 8080; done"
SILENT = "echo up; sleep 1000 | busybox nc -l -p 8080"
IDLE = "echo up; sleep 1000"
TCP = ProbeSpec(kind="tcp", port=8080, timeout=60.0)
READY = ProbeSpec(kind="http", port=8080, path="/ready", timeout=60.0)
ABSENT = ProbeSpec(kind="http", port=8080, path="/absent", timeout=60.0)


class Asked:
    """A container, and a prober that asks it."""

    def __init__(self, target: Target, prober: Prober) -> None:
        self._target, self._prober = target, prober
        self.checks = prober.checks

    async def ask(self, probe: ProbeSpec) -> Result:
        return await self._prober.probe(self._target, probe_check(probe))

    async def answer(self, probe: ProbeSpec) -> Result:
        """The first answer that is not a refused connection: a server needs a moment to listen."""
        async with asyncio.timeout(60):
            while "refused" in (result := await self.ask(probe)).output:
                pass
            return result


@asynccontextmanager
async def container(base: Path, script: str) -> AsyncIterator[Asked]:
    rig = Rig(base)
    async with running(rig) as runtime:
        config = rig.shell(script)
        pid = await start(runtime, config)
        await until_line(runtime, config.id, "up")
        prober = Prober(runtime, SystemClock())
        yield Asked(Target(config.id, pid), prober)


async def test_a_server_in_the_container_is_found_and_its_pages_are_judged(tmp_path: Path) -> None:
    async with container(tmp_path, SERVE) as asked:
        assert (await asked.answer(READY)).code == 0
        assert (await asked.ask(TCP)).code == 0
        absent = await asked.ask(ABSENT)
        assert (absent.code, absent.output[:8]) == (1, "HTTP 404")
        wanted = ProbeSpec(kind="http", port=8080, path="/absent", status=404, timeout=60.0)
        assert (await asked.ask(wanted)).code == 0


async def test_what_listens_on_the_host_does_not_answer_for_the_container(tmp_path: Path) -> None:
    async with container(tmp_path, IDLE) as asked:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with contextlib.closing(socket.create_connection(("127.0.0.1", port))):
                refused = await asked.ask(ProbeSpec(kind="tcp", port=port, timeout=60.0))
    assert (refused.code, refused.output) == (1, f"connect to port {port}: Connection refused")


async def test_who_does_not_speak_http_is_found_out(tmp_path: Path) -> None:
    async with container(tmp_path, SAY) as asked:
        result = await asked.answer(READY)
    assert (result.code, result.output) == (1, "what answers does not speak HTTP")


async def test_who_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with container(tmp_path, SILENT) as asked:
        result = await asked.answer(ProbeSpec(kind="http", port=8080, path="/", timeout=0.3))
    assert result.output == "Health check exceeded timeout (300ms)"


async def test_a_container_that_has_ended_is_no_success(tmp_path: Path) -> None:
    async with container(tmp_path, IDLE) as asked:
        pass
    result = await asked.ask(TCP)
    assert result.code == 1
    assert "not there any more" in result.output
    assert asked.checks.counts()["failed",] == 1


def command(*args: str, timeout: float = 60.0) -> ProbeSpec:
    return ProbeSpec(kind="exec", command=args, timeout=timeout)


async def test_a_command_answers_with_its_exit_code_and_its_output(tmp_path: Path) -> None:
    async with container(tmp_path, IDLE) as asked:
        assert (await asked.ask(command("true"))).code == 0
        bad = await asked.ask(command("sh", "-c", "echo not yet; exit 7"))
        assert (bad.code, bad.output) == (7, "not yet\n")
        absent = await asked.ask(command("no-such-program"))
    assert absent.code == 1
    assert "no-such-program" in absent.output


async def test_a_command_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    async with container(tmp_path, IDLE) as asked:
        result = await asked.ask(command("sh", "-c", "sleep 4242 & sleep 4243", timeout=0.5))
        assert (result.code, result.output) == (-1, "Health check exceeded timeout (500ms)")
        async with asyncio.timeout(60):
            while " 424" in (left := await asked.ask(command("ps", "-o", "args"))).output:
                pass  # what was killed takes a moment to end
    assert left.code == 0
