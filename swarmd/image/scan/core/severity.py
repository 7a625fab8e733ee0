"""How bad an advisory says it is: CVSS 2 and 3 base scores, words of databases, and levels of both.  Pure.

Scores follow the equations of FIRST's specifications (CVSS v3.1 §7, v2 §3.2.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from swarmd.image.trust.core.policy import LEVELS, UNKNOWN

_WORDS = {
    "none": "none", "negligible": "low", "unimportant": "low", "low": "low", "minor": "low",
    "moderate": "medium", "medium": "medium", "important": "high", "high": "high", "critical": "critical",
}  # fmt: skip

_V3 = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}
_V2 = {
    "AV": {"L": 0.395, "A": 0.646, "N": 1.0},
    "AC": {"H": 0.35, "M": 0.61, "L": 0.71},
    "Au": {"M": 0.45, "S": 0.56, "N": 0.704},
    "C": {"N": 0.0, "P": 0.275, "C": 0.66},
}


def level_of_word(word: str) -> str:
    """``MODERATE`` is ``medium``; ``unknown`` for a word that says nothing."""
    return _WORDS.get(word.lower(), UNKNOWN)


def level_of_score(score: float) -> str:
    """The level of a score from 0 to 10."""
    bounds = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"))
    return next((level for least, level in bounds if score >= least), "none")


def worse(one: str, other: str) -> str:
    """The worse of two levels; one that is known counts before one that is not."""
    order = (UNKNOWN, *LEVELS)
    return max(one, other, key=order.index)


def score_of_vector(vector: str) -> float | None:
    """The base score of ``CVSS:3.1/AV:N/…`` or of a version 2 vector; None for another, or a broken one."""
    head, _, rest = vector.partition("/")
    is_third = head in ("CVSS:3.0", "CVSS:3.1")
    if head.startswith("CVSS:") and not is_third:
        return None
    parts = (rest if is_third else vector.strip("()")).split("/")
    metrics = dict(part.split(":", 1) for part in parts if ":" in part)
    try:
        return _third(metrics, exact=head == "CVSS:3.1") if is_third else _second(metrics)
    except KeyError:
        return None


def _third(metrics: Mapping[str, str], *, exact: bool) -> float:
    scope = metrics["S"]
    lost = 1.0
    for metric in ("C", "I", "A"):
        lost *= 1 - _V3["C"][metrics[metric]]
    base = 1 - lost
    impact = 6.42 * base if scope == "U" else 7.52 * (base - 0.029) - 3.25 * (base - 0.02) ** 15
    ease = 8.22 * _V3["AV"][metrics["AV"]] * _V3["AC"][metrics["AC"]]
    ease *= _PRIVILEGES[scope][metrics["PR"]] * _V3["UI"][metrics["UI"]]
    if impact <= 0:
        return 0.0
    total = min(impact + ease if scope == "U" else 1.08 * (impact + ease), 10.0)
    return _up(total) if exact else math.ceil(round(total * 10, 9)) / 10


def _up(value: float) -> float:
    """To the next tenth, on whole numbers as version 3.1 has it (appendix A)."""
    whole = round(value * 100_000)
    return whole / 100_000 if whole % 10_000 == 0 else (whole // 10_000 + 1) / 10


def _second(metrics: Mapping[str, str]) -> float:
    lost = 1.0
    for metric in ("C", "I", "A"):
        lost *= 1 - _V2["C"][metrics[metric]]
    impact = 10.41 * (1 - lost)
    ease = 20 * _V2["AV"][metrics["AV"]] * _V2["AC"][metrics["AC"]] * _V2["Au"][metrics["Au"]]
    weight = 0.0 if impact == 0 else 1.176
    return round((0.6 * impact + 0.4 * ease - 1.5) * weight, 1)
