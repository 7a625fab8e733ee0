"""For all tests: what holds for tables is looked at after each transaction, and a busy machine fails none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from swarmd.store.core.invariants import structural
from swarmd.store.core.tables import Outcome, Tables
from swarmd.store.core.transaction import Transaction

if TYPE_CHECKING:
    from tests.own_time import OwnTime

# An example that takes long says something of the machine; and whoever changes nothing sees the same examples
# again.  "--hypothesis-profile=default" draws new ones.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

MEMORY = Path("/dev/shm")
MEMORY_BYTES = 64 << 20

MOST_ROWS = 300
"""Beyond that a check after each transaction takes longer than what is tested."""


@pytest.fixture(autouse=True)
def tables_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """After every transaction of every store in this process."""
    apply = Tables.apply

    def checked(tables: Tables, index: int, transaction: Transaction) -> Outcome:
        outcome = apply(tables, index, transaction)
        if len(tables.rows()) <= MOST_ROWS:
            assert structural(tables) == []
        return outcome

    monkeypatch.setattr(Tables, "apply", checked)


@pytest.fixture
async def own_time(monkeypatch: pytest.MonkeyPatch) -> OwnTime:
    """The loop's time, that of :class:`SystemClock` and that of the Raft core is this process' own."""
    from tests.own_time import begin  # the core takes a while to load

    return await begin(monkeypatch, skips=False)


@pytest.fixture
async def skipping_time(monkeypatch: pytest.MonkeyPatch) -> OwnTime:
    """As :func:`own_time`, for what has no sockets: it is not waited while all only wait."""
    from tests.own_time import begin

    return await begin(monkeypatch, skips=True)


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A directory whose syncs wait for nothing that others write, if there is room for one in memory."""
    try:
        free = os.statvfs(MEMORY)
        fits = os.access(MEMORY, os.W_OK) and free.f_bavail * free.f_frsize >= MEMORY_BYTES
    except OSError:
        fits = False
    if not fits:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="swarmd-test-") as directory:
        yield Path(directory)
