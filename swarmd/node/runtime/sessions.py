"""Sessions with programs in containers; and :func:`run`, for those who want only a result: a health check."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from swarmd.kit.groups import TaskGroup
from swarmd.node.runtime.exec_port import ExecConfig, Session, Size

__all__ = ["ExecConfig", "Executing", "Session", "Size", "run"]

_TRAILING = 0.2


class Executing(Protocol):
    """The part of ``port.Runtime`` that :func:`run` needs."""

    async def exec(self, container_id: str, config: ExecConfig) -> Session: ...


async def run(
    runtime: Executing, container_id: str, config: ExecConfig, *, limit: int, timeout: float
) -> tuple[int, bytes]:
    """Run a program to its end: the exit code, and the first ``limit`` bytes of stdout and stderr together.

    After ``timeout`` seconds, which do not include the start, it and all its descendants are killed and
    :class:`TimeoutError` is raised, with what it had written as ``output``.  Errors are those of ``exec``.
    """
    session = await runtime.exec(container_id, msgspec.structs.replace(config, own_group=True))
    output = bytearray()
    ended = False
    try:
        async with asyncio.timeout(timeout):
            code = await _collect(session, output, limit)
        ended = True
        return code, bytes(output)
    except TimeoutError as error:
        raise RunTimeout(bytes(output)) from error
    finally:
        await session.close(kill=not ended)


async def _collect(session: Session, output: bytearray, limit: int) -> int:
    """All that was written when the program ended counts, not what its children write later."""

    async def read() -> None:
        while (piece := await session.read()) is not None:
            output.extend(piece[1][: max(0, limit - len(output))])

    async with TaskGroup() as group:
        reading = group.create_task(read())
        code = await session.wait()
        await asyncio.wait([reading], timeout=_TRAILING)
        reading.cancel()
    return code


class RunTimeout(TimeoutError):
    """The program of :func:`run` was killed because it took too long; ``output`` is what it had written."""

    def __init__(self, output: bytes) -> None:
        super().__init__("the program took too long and was killed")
        self.output = output
