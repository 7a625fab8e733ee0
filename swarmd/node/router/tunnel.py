"""A connection that both ends have agreed to use for something else: bytes pass as they are."""

from __future__ import annotations

from swarmd.kit.supervise import together
from swarmd.node.router.core.request import Bad
from swarmd.node.router.talk import NEVER, Lost, Slow, Talk


async def tunnel(client: Talk, task: Talk) -> int:
    """Until both ends have said their last; answers the bytes that went to the client.

    An end that closes ends its own direction only.  However long nothing is said, the tunnel stays.
    """
    client.deadline = task.deadline = NEVER
    try:
        sent, _ = await together(_pass(task, client), _pass(client, task))
    except (Lost, Bad, Slow):
        sent = 0
    client.close()
    task.close()
    return sent


async def _pass(source: Talk, target: Talk) -> int:
    passed = 0
    while (event := await source.next()) is not None:
        if isinstance(event, bytes):
            target.write(event)
            passed += len(event)
            await target.drain()
    target.say_no_more()
    return passed
