"""The judges find what is wrong, and nothing else: histories made by hand, and those of a real register."""

from __future__ import annotations

from random import Random

import pytest

from tests.nemesis import elements, registers
from tests.nemesis.history import OPEN, Kind, Operation, Outcome


def op(
    kind: Kind,
    value: str,
    began: float,
    ended: float = OPEN,
    *,
    expected: str = "",
    outcome: Outcome | None = None,
) -> Operation:
    outcome = outcome or ("unknown" if ended == OPEN else "ok")
    return Operation("c", "node1", kind, "key", began, ended, outcome, value, expected)


def listing(began: float, ended: float, *names: str) -> Operation:
    return Operation("c", "node1", "list", "", began, ended, "ok", listed=names)


def element(kind: Kind, began: float, ended: float = OPEN, outcome: Outcome = "ok") -> Operation:
    return Operation("c", "node1", kind, "e", began, ended, "unknown" if ended == OPEN else outcome)


# -- registers -----------------------------------------------------------------------------------------

LEGAL = {
    "nothing": [],
    "a read of what was written": [op("write", "a", 0, 1), op("read", "a", 2, 3)],
    "a read during the write sees either": [
        op("write", "a", 0, 9), op("read", "", 1, 2), op("read", "a", 3, 4),
    ],
    "a write of unknown outcome is seen late": [
        op("write", "a", 0, 1), op("write", "b", 2), op("read", "a", 3, 4), op("read", "b", 8, 9),
    ],
    "a write of unknown outcome is never seen": [op("write", "a", 0), op("read", "", 3, 4)],
    "a swap of what was there": [
        op("write", "a", 0, 1), op("swap", "b", 2, 3, expected="a"), op("read", "b", 4, 5),
    ],
    "a chain of swaps of unknown outcome": [
        op("swap", "a", 0, expected=""), op("read", "a", 1, 2), op("swap", "b", 3, expected="a"),
        op("swap", "c", 6, 7, expected="b"),
    ],
    "a refused swap": [
        op("write", "a", 0, 1), op("swap", "b", 2, 3, expected="", outcome="fail"), op("read", "a", 4, 5),
    ],
    "concurrent writes in either order": [
        op("write", "a", 0, 5), op("write", "b", 1, 4), op("read", "b", 6, 7), op("read", "b", 8, 9),
    ],
}  # fmt: skip

ILLEGAL = {
    "an acknowledged write is lost": [op("write", "a", 0, 1), op("read", "", 2, 3)],
    "a stale read": [op("write", "a", 0, 1), op("write", "b", 2, 3), op("read", "a", 4, 5)],
    "a value comes back": [
        op("write", "a", 0, 9), op("read", "a", 1, 2), op("read", "", 3, 4),
    ],
    "two readers disagree on the order": [
        op("write", "a", 0, 9), op("write", "b", 0, 9),
        op("read", "a", 1, 2), op("read", "b", 3, 4), op("read", "a", 5, 6),
    ],
    "two swaps of the same value": [
        op("write", "a", 0, 1), op("swap", "b", 2, 5, expected="a"), op("swap", "c", 3, 6, expected="a"),
    ],
    "a swap of unknown outcome happened over something newer": [
        op("write", "a", 0, 1), op("write", "b", 2, 3), op("swap", "c", 4, expected="a"),
        op("read", "c", 6, 7),
    ],
    "an open write takes effect twice": [
        op("write", "a", 0), op("read", "a", 1, 2), op("write", "b", 3, 4), op("read", "a", 5, 6),
    ],
    "nobody wrote it": [op("read", "x", 0, 1)],
    "a refused write is seen": [op("write", "a", 0, 1, outcome="fail"), op("read", "a", 2, 3)],
    "it is read before it is written": [op("read", "a", 0, 1), op("write", "a", 2, 3)],
}  # fmt: skip


@pytest.mark.parametrize("what", LEGAL)
def test_a_legal_history_of_a_register_passes(what: str) -> None:
    assert registers.judge(LEGAL[what]) is None


@pytest.mark.parametrize("what", ILLEGAL)
def test_an_illegal_history_of_a_register_is_found(what: str) -> None:
    assert registers.judge(ILLEGAL[what]) is not None


class Simulated:
    """A real register: every operation takes effect at one moment between its two ends."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.value = ""
        self.numbers = 0

    def history(self, length: int, clients: int = 4) -> list[Operation]:
        free = [0.0] * clients
        planned = []
        for _ in range(length):
            client = min(range(clients), key=lambda each: free[each])
            began = free[client] + self.rng.expovariate(2)
            free[client] = ended = began + self.rng.expovariate(1)
            planned.append((self.rng.uniform(began, ended), began, ended))
        return [self._operation(began, ended) for _, began, ended in sorted(planned)]

    def _operation(self, began: float, ended: float) -> Operation:
        kinds: tuple[Kind, ...] = ("read", "read", "write", "swap")
        kind = self.rng.choice(kinds)
        if kind == "read":
            return op("read", self.value, began, ended)
        self.numbers += 1
        fresh = f"v{self.numbers}"
        fate = self.rng.random()
        expected = self.value if kind == "swap" else ""
        if fate > 0.25:
            self.value = fresh
        return op(kind, fresh, began, OPEN if fate < 0.5 else ended, expected=expected)


@pytest.mark.parametrize("seed", range(30))
def test_what_a_real_register_answers_passes_however_calls_overlap(seed: int) -> None:
    assert registers.judge(Simulated(seed).history(150)) is None


@pytest.mark.parametrize("seed", range(30))
def test_a_read_of_a_value_that_was_replaced_long_before_is_found_and_shown_in_a_few_lines(seed: int) -> None:
    history = Simulated(seed).history(150)
    written = [o for o in history if o.kind == "write" and o.outcome == "ok"]
    early, late = written[2], written[-3]
    stale = op("read", early.value, late.returned + 100, late.returned + 101)
    verdict = registers.judge([*history, stale])
    assert verdict is not None
    assert stale in verdict.evidence
    assert len(verdict.evidence) <= 8


@pytest.mark.parametrize("seed", range(30))
def test_an_acknowledged_write_that_is_wiped_out_is_found(seed: int) -> None:
    history = Simulated(seed).history(60)
    end = max(o.returned for o in history if o.returned != OPEN)
    lost = op("write", "lost", end + 1, end + 2)
    before = history[-1].value if history[-1].kind == "read" else Simulated(seed).value
    found = registers.judge([*history, lost, op("read", before, end + 3, end + 4)])
    assert found is not None


def test_the_evidence_is_the_shortest_beginning_that_shows_it() -> None:
    history = [
        op("write", "a", 0, 1), op("read", "a", 2, 3), op("write", "b", 4, 5), op("read", "b", 6, 7),
        op("read", "a", 8, 9), op("write", "c", 10, 11), op("read", "c", 12, 13),
    ]  # fmt: skip
    verdict = registers.judge(history)
    assert verdict is not None
    assert [(o.kind, o.value) for o in verdict.evidence] == [("write", "a"), ("write", "b"), ("read", "a")]


# -- the set -------------------------------------------------------------------------------------------

FINE = {
    "listed after it was added": [element("add", 0, 1), listing(2, 3, "e")],
    "not yet listed while it is added": [element("add", 0, 9), listing(2, 3), listing(4, 5, "e")],
    "an addition of unknown outcome, not there": [element("add", 0), listing(2, 3)],
    "an addition of unknown outcome, there later": [element("add", 0), listing(2, 3), listing(4, 5, "e")],
    "removed": [element("add", 0, 1), listing(2, 3, "e"), element("remove", 4, 5), listing(6, 7)],
    "a removal of unknown outcome, still there": [
        element("add", 0, 1), element("remove", 4), listing(6, 7, "e"),
    ],
    "a removal of unknown outcome, gone later": [
        element("add", 0, 1), element("remove", 4), listing(6, 7, "e"), listing(8, 9),
    ],
    "a refused addition": [element("add", 0, 1, "fail"), listing(2, 3)],
}  # fmt: skip

BROKEN = {
    "an acknowledged element is missing": [element("add", 0, 1), listing(2, 3)],
    "an element that was seen is missing": [element("add", 0), listing(2, 3, "e"), listing(4, 5)],
    "listed twice": [element("add", 0, 1), listing(2, 3, "e", "e")],
    "nobody added it": [listing(2, 3, "e")],
    "a refused element is there": [element("add", 0, 1, "fail"), listing(2, 3, "e")],
    "it comes back after its removal": [
        element("add", 0, 1), element("remove", 2, 3), listing(4, 5, "e"),
    ],
    "it comes back after it was seen gone": [
        element("add", 0, 1), element("remove", 2), listing(4, 5), listing(6, 7, "e"),
    ],
    "it is missing before its removal was asked for": [
        element("add", 0, 1), listing(2, 3), element("remove", 4, 5),
    ],
    "listed before it was added": [listing(0, 1, "e"), element("add", 2, 3)],
}  # fmt: skip


@pytest.mark.parametrize("what", FINE)
def test_a_sound_set_passes(what: str) -> None:
    assert elements.judge(FINE[what]) == []


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_set_is_found(what: str) -> None:
    assert elements.judge(BROKEN[what]) != []


def test_the_order_in_which_answers_came_in_changes_no_verdict() -> None:
    for histories, wanted in ((LEGAL, True), (ILLEGAL, False)):
        for history in histories.values():
            assert (registers.judge(list(reversed(history))) is None) is wanted
