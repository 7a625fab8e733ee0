"""A session over a stream of messages: what the user types goes in, what the program says comes out.

    messages ──► stdin, end, size, signal ──► session          each side waits for the slower one:
    messages ◄── stdout, stderr, end      ◄── session          nothing piles up

When the caller goes, the session is let go: an attached container runs on, an exec'd program too.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import structlog

from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Refused
from swarmd.node.runtime.exec_port import ExecConfig, Size
from swarmd.node.runtime.sessions import Session
from swarmd.rpc.v1 import containers_pb2 as pb


def exec_config(command: pb.ExecCommand) -> ExecConfig:
    """What is to be executed."""
    return ExecConfig(
        args=tuple(command.args),
        env=tuple(command.env),
        cwd=command.cwd,
        user=command.user,
        tty=command.tty,
        stdin=command.stdin,
        privileged=command.privileged,
        detach=command.detach,
        size=_size(command.size) if command.HasField("size") else Size(),
    )


async def speak(
    session: Session,
    inputs: AsyncIterator[pb.SessionInput],
    started: pb.SessionStarted,
    *,
    own: bool,
) -> AsyncGenerator[pb.SessionOutput, None]:
    """Everything until the program has ended; its exit code comes last.

    ``own``: the program was started for this caller, so its input ends with him; the input of a container
    ends only when he says so.
    """
    nursery = Nursery(_report)
    try:
        yield pb.SessionOutput(started=started)
        nursery.start("input of a session", _listen(session, inputs, own=own))
        while (piece := await session.read()) is not None:
            number, data = piece
            yield pb.SessionOutput(stdout=data) if number == 1 else pb.SessionOutput(stderr=data)
        yield pb.SessionOutput(end=pb.SessionEnd(exit_code=await session.wait()))
    finally:
        await nursery.close()
        await session.close()


async def _listen(session: Session, inputs: AsyncIterator[pb.SessionInput], *, own: bool) -> None:
    async for message in inputs:
        # The program may have ended, or closed its input: whoever asked learns that from the exit code.
        with contextlib.suppress(Refused):
            await _do(session, message)
    if own:
        with contextlib.suppress(Refused):
            await session.end_input()


async def _do(session: Session, message: pb.SessionInput) -> None:
    kind = message.WhichOneof("body")
    if kind == "stdin":
        await session.write(message.stdin)
    elif kind == "end":
        await session.end_input()
    elif kind == "size":
        await session.resize(_size(message.size))
    elif kind == "signal":
        await session.signal(message.signal)


def _report(name: str, error: BaseException) -> None:
    structlog.get_logger().error("session_input_failed", what=name, exc_info=error)


def _size(size: pb.TerminalSize) -> Size:
    return Size(rows=size.rows, columns=size.columns)
