"""What a run came to: figures, and the verdict with its evidence.  Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

import msgspec

from tests.nemesis import elements, registers
from tests.nemesis.history import History, Operation
from tests.nemesis.plan import Fault

KINDS = ("read", "write", "swap", "list", "add", "remove")
_WRITES = ("write", "swap", "add", "remove")


class Inflicted(msgspec.Struct, frozen=True):
    """A fault as it happened: when it began, was undone and had healed, seconds of the history's clock."""

    fault: Fault
    whom: str
    began: float
    undone: float
    healed: float


class Finding(msgspec.Struct, frozen=True):
    """One broken promise with the operations that show it."""

    what: str
    evidence: tuple[Operation, ...] = ()

    def lines(self, origin: float) -> list[str]:
        """For people."""
        return [f"VIOLATION: {self.what}", *(f"    {each.line(origin)}" for each in self.evidence)]


def findings(history: History) -> list[Finding]:
    """Everything the history proves wrong."""
    found = [Finding(what) for what in _idle(history.operations)]
    for key in history.registers():
        verdict = registers.judge(history.of(key))
        if verdict is not None:
            found.append(Finding(verdict.what, verdict.evidence))
    found += [Finding(each.what, each.evidence) for each in elements.judge(history.operations)]
    return found


def _idle(operations: Iterable[Operation]) -> list[str]:
    """A kind of call that never succeeded: then the run proves nothing."""
    done = {o.kind for o in operations if o.outcome == "ok"}
    return [f"not one {kind} succeeded: this run proves nothing" for kind in KINDS if kind not in done]


def figures(history: History, inflicted: Sequence[Inflicted]) -> list[str]:
    """The report without the verdict."""
    return [
        *_operations(history.operations),
        "",
        *_latencies(history.operations, inflicted),
        "",
        *_faults(history.operations, inflicted),
    ]


def _operations(operations: Iterable[Operation]) -> list[str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for operation in operations:
        counts[operation.kind][operation.outcome] += 1
    lines = ["operation      ok    fail unknown"]
    for kind in KINDS:
        row = counts[kind]
        lines.append(f"{kind:10} {row['ok']:6} {row['fail']:7} {row['unknown']:7}")
    total: Counter[str] = sum(counts.values(), Counter())
    lines.append(f"{'all':10} {total['ok']:6} {total['fail']:7} {total['unknown']:7}")
    return lines


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _latencies(operations: Iterable[Operation], inflicted: Sequence[Inflicted]) -> list[str]:
    """As multiples of the median write while nothing was wrong: seconds say nothing on another machine."""
    took: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for operation in operations:
        if operation.outcome == "ok":
            sort = "write" if operation.kind in _WRITES else "read"
            troubled = any(
                operation.invoked < each.healed and operation.returned > each.began for each in inflicted
            )
            took[sort, troubled].append(operation.returned - operation.invoked)
    quiet = took["write", False]
    if not quiet:
        return ["no write was answered while nothing was wrong"]
    unit = median(quiet)
    lines = [f"latency ÷ median quiet write ({1000 * unit:.1f} ms here)   p50     p99"]
    for (sort, troubled), values in sorted(took.items()):
        when = "during faults" if troubled else "quiet"
        middle, slowest = (_quantile(values, share) / unit for share in (0.5, 0.99))
        lines.append(f"{sort + ', ' + when:45} {middle:6.1f} {slowest:7.1f}")
    return lines


def gaps(operations: Iterable[Operation], began: float, ended: float) -> float:
    """The longest time without an accepted write that lies, at least in part, between the two times."""
    answered = sorted(o.returned for o in operations if o.outcome == "ok" and o.kind in _WRITES)
    longest = 0.0
    for before, after in pairwise(answered):
        if after > began and before < ended:
            longest = max(longest, after - before)
    return longest


def _faults(operations: Sequence[Operation], inflicted: Sequence[Inflicted]) -> list[str]:
    by_kind: dict[str, list[Inflicted]] = defaultdict(list)
    for each in inflicted:
        by_kind[each.fault.kind].append(each)
    lines = ["fault        times  longest hold  worst gap between writes  worst healing afterwards (s)"]
    for kind, times in sorted(by_kind.items()):
        gap = max(gaps(operations, each.began, each.healed) for each in times)
        hold = max(each.undone - each.began for each in times)
        heal = max(each.healed - each.undone for each in times)
        lines.append(f"{kind:12} {len(times):5} {hold:13.1f} {gap:25.1f} {heal:25.1f}")
    return lines
