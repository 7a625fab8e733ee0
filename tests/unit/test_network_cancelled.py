"""Whoever is cancelled while the kernel is being told leaves nobody in the middle of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.kit.supervise import Interrupted, whole
from swarmd.model.replace import replace
from swarmd.node.network import shell
from swarmd.node.network.containers import Containers
from swarmd.node.network.port import Attachment, NetworkView

LIMIT = 60.0


class SlowKernel(Containers):
    """Each change takes until it is let go.  ``log``: what began and ended, in order."""

    def __init__(self) -> None:
        super().__init__(None)
        self.log: list[str] = []
        self.busy, self.go_on = threading.Event(), threading.Event()

    def attach(self, wanted: Attachment, networks: Mapping[str, NetworkView]) -> Attachment:
        self.log.append("attach")
        self.busy.set()
        self.go_on.wait(LIMIT)
        self.log.append("attached")
        return replace(wanted, address="10.128.1.1")

    def detach(self, task_id: str) -> None:
        self.log.append("detach")


@pytest.fixture
def kernel() -> Iterator[SlowKernel]:
    kernel = SlowKernel()
    yield kernel
    kernel.go_on.set()


async def test_a_start_that_is_cancelled_ends_its_change_before_another_begins(kernel: SlowKernel) -> None:
    network = shell.Network("n1", SystemClock(), lambda *_: None)
    network._containers = kernel
    starting = asyncio.ensure_future(network.attach("t1", 1))
    assert await asyncio.to_thread(kernel.busy.wait, LIMIT)
    starting.cancel()
    ending = asyncio.ensure_future(network.detach("t1"))
    done, _ = await asyncio.wait((starting, ending), timeout=0.1)
    assert (done, kernel.log) == (set(), ["attach"])
    kernel.go_on.set()
    async with asyncio.timeout(LIMIT):
        await ending
    assert starting.cancelled()
    assert kernel.log == ["attach", "attached", "detach"]
    await network.stop(clean=False)


async def test_what_is_whole_gives_its_result_and_its_failure_and_is_no_cancellation_of_the_caller() -> None:
    async def work(error: BaseException | None) -> int:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return 7

    assert await whole(work(None)) == 7
    with pytest.raises(ValueError, match="no"):
        await whole(work(ValueError("no")))
    with pytest.raises(Interrupted):
        await whole(work(asyncio.CancelledError()))
