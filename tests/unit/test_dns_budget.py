"""How much one container may ask."""

from __future__ import annotations

from swarmd.node.dns.core.budget import OUTSIDE, PER_SLICE, SLICE_SECONDS, Budget


def test_a_budget_is_spent_and_comes_again_with_the_next_slice() -> None:
    budget = Budget()
    assert budget.left(10.0) == PER_SLICE
    budget.spend(PER_SLICE - 1)
    assert budget.left(10.0 + SLICE_SECONDS / 2) == 1
    budget.spend()
    assert budget.left(10.0 + SLICE_SECONDS / 2) == 0
    assert budget.ends == 10.0 + SLICE_SECONDS
    assert budget.left(budget.ends) == PER_SLICE


def test_the_last_question_may_cost_more_than_is_left_and_no_debt_remains() -> None:
    budget = Budget()
    budget.left(0.0)
    budget.spend(PER_SLICE - 1)
    budget.spend(OUTSIDE)
    assert budget.left(0.0) == 0
    assert budget.left(budget.ends) == PER_SLICE
