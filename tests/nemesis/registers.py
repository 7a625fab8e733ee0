"""Whether the history of one register is linearizable: Wing and Gong's search, with Lowe's memory.

Every value is written at most once, which makes operations of unknown outcome harmless: one whose value
nobody saw can be left out, one whose value was seen took effect before the first who saw it had the answer.

    operations ── settle ──► those that took effect, each with an end ──► search ──► an order, or none
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tests.nemesis.history import OPEN, Operation

_WRITES = ("write", "swap")


class Verdict(msgspec.Struct, frozen=True):
    """What is wrong with a register, and the operations that suffice to see it."""

    key: str
    what: str
    evidence: tuple[Operation, ...]


def judge(operations: Sequence[Operation]) -> Verdict | None:
    """None when the operations (all of one register, which begins as "") have a legal order in real time."""
    useful = [o for o in operations if o.kind in _WRITES or o.outcome == "ok"]
    nowhere = _from_nowhere(useful)
    if nowhere is not None:
        return nowhere
    if _linearizable(useful):
        return None
    evidence = _shrunk(_shortest(useful))
    key = useful[0].key
    return Verdict(key, f"register {key}: no order of these operations explains what was seen", evidence)


def _seen(operation: Operation) -> str:
    """The value that the operation found, "" when it did not look."""
    if operation.outcome != "ok":
        return ""
    return {"read": operation.value, "swap": operation.expected}.get(operation.kind, "")


def _from_nowhere(operations: Sequence[Operation]) -> Verdict | None:
    """Values seen that nobody wrote, or whose writer was told that it had failed."""
    written = {o.value: o for o in operations if o.kind in _WRITES}
    for operation in operations:
        value = _seen(operation)
        if not value:
            continue
        writer = written.get(value)
        if writer is None:
            return Verdict(operation.key, f"{value!r} was seen, nobody wrote it", (operation,))
        if writer.outcome == "fail":
            what = f"{value!r} was seen, its writer was told that it had failed"
            return Verdict(operation.key, what, (writer, operation))
    return None


def settle(operations: Iterable[Operation]) -> list[Operation]:
    """The operations that must have taken effect, each with the time by which it had."""
    given = list(operations)
    seen_by = _seen_by(given)
    certain = []
    for operation in given:
        if operation.outcome == "ok":
            certain.append(operation)
        elif operation.outcome == "unknown" and operation.value in seen_by:
            end = seen_by[operation.value]
            certain.append(msgspec.structs.replace(operation, outcome="ok", returned=end))
    return sorted(certain, key=lambda o: o.invoked)


def _seen_by(operations: Sequence[Operation]) -> dict[str, float]:
    """Value → when its writer had certainly taken effect, because somebody had seen it."""
    swaps = {o.value: o for o in operations if o.kind == "swap" and o.outcome == "unknown"}
    todo = [(_seen(o), o.returned) for o in operations if _seen(o)]
    found: dict[str, float] = {}
    while todo:
        value, end = todo.pop()
        if end < found.get(value, OPEN):
            found[value] = end
            # A swap that was seen proves in turn that what it expected had been written.
            if value in swaps and swaps[value].expected:
                todo.append((swaps[value].expected, end))
    return found


def _after(operation: Operation, value: str) -> str | None:
    """The register's value behind the operation; None when it cannot happen at ``value``."""
    if operation.kind == "write":
        return operation.value
    if operation.kind == "swap":
        return operation.value if operation.expected == value else None
    return value if operation.value == value else None


def _linearizable(operations: Iterable[Operation]) -> bool:
    """Depth first; a state (who is done, what the value is) is never looked at twice."""
    todo = settle(operations)
    everyone = (1 << len(todo)) - 1
    stack, known = [(0, "")], {(0, "")}
    while stack:
        done, value = stack.pop()
        if done == everyone:
            return True
        for number in _next(todo, done):
            after = _after(todo[number], value)
            state = (done | 1 << number, after or "")
            if after is not None and state not in known:
                known.add(state)
                stack.append(state)
    return False


def _next(todo: Sequence[Operation], done: int) -> list[int]:
    """Those that may be the next: begun before any other that is left had ended."""
    found: list[int] = []
    number = (~done & (done + 1)).bit_length() - 1
    end = OPEN
    while number < len(todo) and todo[number].invoked <= end:
        if not done >> number & 1:
            found.append(number)
            end = min(end, todo[number].returned)
        number += 1
    return [number for number in found if todo[number].invoked <= end]


def _shortest(operations: Sequence[Operation]) -> list[Operation]:
    """The beginning of the history, up to the answer with which it became illegal."""
    ends = sorted({o.returned for o in operations if o.returned != OPEN})
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if _linearizable(_until(operations, ends[middle])):
            low = middle + 1
        else:
            high = middle
    return _until(operations, ends[low]) if ends else list(operations)


def _until(operations: Iterable[Operation], end: float) -> list[Operation]:
    """What was known at ``end``: later answers are still open, later questions not asked."""
    return [
        o if o.returned <= end else msgspec.structs.replace(o, outcome="unknown", returned=OPEN)
        for o in operations
        if o.invoked <= end and (o.returned <= end or o.kind in _WRITES)
    ]


def _shrunk(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """As few as show it: without reads that change nothing, then without writes that nobody saw.

    A swap asks for more than a write of the same value; where the write suffices it stands for the swap, and
    what the swap had found is not needed either.
    """
    left = sorted(operations, key=lambda o: o.invoked)
    changed = True
    while changed:
        changed = False
        for number, operation in enumerate(left):
            if operation.kind == "swap":
                weaker = msgspec.structs.replace(operation, kind="write", expected="", said="by a swap")
                others = [*left[:number], weaker, *left[number + 1 :]]
                if not _linearizable(others):
                    left, changed = others, True
        for operation in list(left):
            value = operation.value
            others = [o for o in left if o is not operation]
            needed = operation.kind in _WRITES and any(value in (_seen(o), _hoped(o)) for o in others)
            if not needed and not _linearizable(others):
                left, changed = others, True
    return tuple(left)


def _hoped(operation: Operation) -> str:
    return operation.expected if operation.kind == "swap" and operation.outcome != "fail" else ""
