"""A group of tasks whose failure leaves no mark on whoever waits for it."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType

_LEAVES_A_MARK = sys.version_info < (3, 13)


class TaskGroup(asyncio.TaskGroup):
    """Before Python 3.13 a task that fails while its group is left cancels who waits, for ever.

    That counts in :func:`swarmd.kit.supervise.cancellations`: a failure seems to be the wish of somebody that
    the work end, and a group around it goes on as if nothing had been.
    """

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        taken_back = self._was_cancelled()
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            task = asyncio.current_task()
            if _LEAVES_A_MARK and self._was_cancelled() and not taken_back and task is not None:
                task.uncancel()

    def _was_cancelled(self) -> bool:
        """Whether the group has cancelled who waits for it.  What it did before it was left it takes back."""
        return bool(vars(self).get("_parent_cancel_requested"))
