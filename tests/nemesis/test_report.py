"""The figures and findings of a run, from histories made by hand."""

from __future__ import annotations

from tests.nemesis import report
from tests.nemesis.history import History, Kind, Operation


def ok(kind: Kind, key: str, at: float, value: str = "", listed: tuple[str, ...] = ()) -> Operation:
    return Operation("c", "node1", kind, key, at, at + 0.1, "ok", value=value, listed=listed)


def history(*operations: Operation) -> History:
    made = History(lambda: 0.0)
    for operation in operations:
        made.add(operation)
    return made


WHOLE = (
    ok("write", "r", 1, "a"), ok("read", "r", 2, "a"), ok("swap", "s", 3, "b"),
    ok("add", "e", 4), ok("list", "", 5, listed=("e",)), ok("remove", "e", 6),
)  # fmt: skip


def test_a_sound_history_has_no_finding() -> None:
    assert report.findings(history(*WHOLE)) == []


def test_a_sort_of_call_that_never_succeeded_is_a_finding() -> None:
    (finding,) = report.findings(history(*WHOLE[:-1]))
    assert "not one remove succeeded" in finding.what


def test_a_stale_read_and_a_lost_element_are_both_found_and_shown_with_their_operations() -> None:
    wrong = history(
        *WHOLE, ok("write", "r", 7, "c"), ok("read", "r", 8, "a"), ok("add", "f", 9), ok("list", "", 10)
    )
    register, element = report.findings(wrong)
    assert [each.value for each in register.evidence] == ["a", "c", "a"]
    assert "f was acknowledged or seen" in element.what
    assert "read r = 'a' ok" in "\n".join(register.lines(0.0))


def test_the_gap_of_a_fault_is_the_longest_time_without_an_accepted_write_around_it() -> None:
    writes = [ok("write", "r", at, str(at)) for at in (1, 2, 6, 7, 20)]
    assert round(report.gaps(writes, began=3, ended=5), 3) == 4
    assert round(report.gaps(writes, began=6.5, ended=6.6), 3) == 1
    assert round(report.gaps(writes, began=0, ended=30), 3) == 13
