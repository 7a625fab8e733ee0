"""Asks a container how it is: runs a command in it, connects to one of its ports, or requests a page."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl

import msgspec

from swarmd.kit.clock import Clock
from swarmd.model.errors import SwarmError
from swarmd.model.health import ProbeSpec
from swarmd.node.agent.core.health import OUTPUT_LIMIT, Check, Result, timed_out
from swarmd.node.network.namespace import Dialer
from swarmd.node.runtime.sessions import ExecConfig, Executing, run
from swarmd.telemetry.tally import Tally

_LOOPBACK = "127.0.0.1"
_MAX_HEAD = 16 * 1024
_EXEC_PATIENCE = 30.0
"""Seconds that starting a command in a container may take on top of its time limit."""


class Target(msgspec.Struct, frozen=True):
    """A running container; ``address`` is empty when it has none of its own."""

    container_id: str
    pid: int
    address: str = ""


class Prober:
    """One per node.  Every probe ends within its time limit.  ``checks`` counts them: ok, or failed."""

    def __init__(self, runtime: Executing, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._dialer = Dialer()
        self.checks = Tally()

    def close(self) -> None:
        """Nothing is probed any more."""
        self._dialer.close()

    async def probe(self, target: Target, check: Check) -> Result:
        """One answer, whatever happens."""
        result = await self._result(target, check)
        self.checks.add("ok" if result.code == 0 else "failed")
        return result

    async def _result(self, target: Target, check: Check) -> Result:
        began = self._clock.now()
        try:
            code, output = await self._ask(target, check)
        except TimeoutError:
            return timed_out(check, began=began, ended=self._clock.now())
        except (SwarmError, OSError, EOFError, ValueError) as error:
            code, output = 1, str(error) or type(error).__name__
        return Result(code=code, output=output, began=began, ended=self._clock.now())

    async def _ask(self, target: Target, check: Check) -> tuple[int, str]:
        probe = check.probe
        if probe.kind == "exec":
            wanted = ExecConfig(args=probe.command)
            async with asyncio.timeout(check.timeout + _EXEC_PATIENCE):
                code, output = await run(
                    self._runtime, target.container_id, wanted, limit=OUTPUT_LIMIT, timeout=check.timeout
                )
            return code, output.decode(errors="replace")
        async with asyncio.timeout(check.timeout):
            reader, writer = await self._connect(target, probe)
            try:
                return await _http(reader, writer, probe) if probe.kind == "http" else (0, "")
            finally:
                writer.transport.abort()  # there is nothing more to say, and no time to say it in

    async def _connect(
        self, target: Target, probe: ProbeSpec
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the container's own address; to its loopback where it has none or nobody listens there."""
        failure: OSError | None = None
        for address in dict.fromkeys((target.address or _LOOPBACK, _LOOPBACK)):
            try:
                return await self._connect_to(address, target, probe)
            except OSError as error:
                failure = error
        why = os.strerror(failure.errno or errno.EIO) if failure else ""
        raise OSError(f"connect to port {probe.port}: {why}")

    async def _connect_to(
        self, address: str, target: Target, probe: ProbeSpec
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = await self._dialer.socket(target.pid)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (address, probe.port))
        except BaseException:
            sock.close()
            raise
        context = _unverified() if probe.scheme == "https" else None
        return await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname="" if context else None, limit=_MAX_HEAD
        )


def _unverified() -> ssl.SSLContext:
    """A probe asks whether somebody answers, not who: certificates in containers are often their own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _http(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, probe: ProbeSpec
) -> tuple[int, str]:
    headers = {"Host": f"localhost:{probe.port}", "User-Agent": "swarmd-probe", **probe.headers}
    lines = [f"GET {probe.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    await writer.drain()
    words = (await reader.readline()).split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return 1, "what answers does not speak HTTP"
    status = int(words[1])
    good = status == probe.status if probe.status else 200 <= status < 400
    if good:
        return 0, f"HTTP {status}"
    text = ""
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        text = (await reader.read(OUTPUT_LIMIT)).decode(errors="replace")
    return 1, f"HTTP {status} {text}".strip()
