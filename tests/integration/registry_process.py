"""A registry over an image store, in a process of its own: it can be killed.

    python -m tests.integration.registry_process DIRECTORY

Prints its port; ends in order at SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from swarmd.image.registry.http_server import HttpServer
from swarmd.image.registry.intake import Uploads
from swarmd.image.registry.journal import Journal
from swarmd.image.registry.links import Links
from swarmd.image.registry.memory_names import MemoryNames
from swarmd.image.registry.server import Registry
from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id


async def serve(root: Path) -> None:
    clock, over = SystemClock(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    store = ImageStore(root / "images", clock)
    await store.open()
    journal = Journal(root / "pushes.json")
    uploads = Uploads(store.content, clock, new_id, journal=journal)
    registry = Registry(MemoryNames(), store.content, uploads, Links(store.content, clock, journal))
    server = HttpServer(registry.handle)
    print(await server.open("127.0.0.1", 0), flush=True)
    await over.wait()
    await server.close()
    await registry.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
