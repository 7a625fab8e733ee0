"""What every test of the tables checks besides: the rules that hold after each transaction."""

from __future__ import annotations

import pytest

from swarmd.store.core.invariants import structural
from swarmd.store.core.tables import Outcome, Tables
from swarmd.store.core.transaction import Transaction

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
