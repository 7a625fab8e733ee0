"""Whether a program listens, looked up where the kernel lists the sockets of a process's network."""

from __future__ import annotations

import asyncio
from pathlib import Path

from swarmd.model.errors import NotFound
from swarmd.node.network.core.procnet import listens
from swarmd.node.network.port import Transport


async def listening(pid: int, protocol: Transport, port: int) -> bool:
    """See :meth:`swarmd.node.network.port.NetworkPort.listening`."""
    found = False
    for family in ("", "6"):
        path = Path(f"/proc/{pid}/net/{protocol}{family}")
        try:
            text = await asyncio.to_thread(path.read_text)
        except FileNotFoundError:
            continue
        except (ProcessLookupError, OSError):
            raise NotFound(f"process {pid} is not there any more") from None
        found = found or listens(text, protocol, port)
    return found
