"""The daemon's end of the line to the spawner, when nobody is at the other end."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path
from typing import Any

import pytest

from swarmd.node.runtime.client import SpawnClient, SpawnerLost


async def test_a_question_that_cannot_be_sent_ends_the_connection_and_is_answered_once(
    tmp_path: Path,
) -> None:
    lost: list[bool] = []
    client = SpawnClient(tmp_path, event=lambda _: None, lost=lambda: lost.append(True))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    client._connection, client._established = ours, True
    theirs.close()
    unread: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))
    for _ in range(2):
        with pytest.raises(SpawnerLost):
            await client.call("hello")
    gc.collect()
    assert (lost, unread) == ([True], [])
