"""What is new since a version."""

from __future__ import annotations

from swarmd.manager.dispatcher.core.pieces import REMEMBERED, Pieces


def test_only_what_changed_since_a_version_is_told_with_what_is_gone() -> None:
    pieces: Pieces[str] = Pieces()
    assert pieces.put("a", "1", 5)
    assert pieces.put("b", "1", 6)
    assert pieces.put("c", "1", 7)
    assert pieces.put("a", "2", 8)
    assert pieces.put("c", None, 9)
    assert pieces.whole() == {"a": "2", "b": "1"}
    assert pieces.since(9) == {}
    assert pieces.since(7) == {"a": "2", "c": None}
    assert pieces.since(5) == {"a": "2", "b": "1", "c": None}


def test_what_is_the_same_is_no_news() -> None:
    pieces: Pieces[str] = Pieces()
    assert pieces.put("a", "1", 5)
    assert not pieces.put("a", "1", 6)
    assert not pieces.put("never", None, 6)
    assert pieces.since(5) == {}


def test_what_went_and_came_back_is_not_gone() -> None:
    pieces: Pieces[str] = Pieces()
    pieces.put("a", "1", 5)
    pieces.put("a", None, 6)
    pieces.put("a", "1", 7)
    assert pieces.since(5) == {"a": "1"}


def test_a_version_from_before_what_is_remembered_needs_the_whole() -> None:
    pieces: Pieces[int] = Pieces()
    for number in range(REMEMBERED + 1):
        pieces.put(str(number), number, 10)
    for number in range(REMEMBERED + 1):
        pieces.put(str(number), None, 20 + number)
    assert pieces.since(19) is None
    gone = pieces.since(20)
    assert gone is not None
    assert len(gone) == REMEMBERED
