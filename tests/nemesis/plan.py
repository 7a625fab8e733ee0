"""Which fault happens when, decided from a seed alone: the same seed draws the same schedule.

A target is a role where a role is what matters ("leader", "follower"), else a node's name; who has the role
is found out when the fault begins.  Faults do not overlap: the next begins ``rest`` seconds after the swarm
has healed, so the times of a schedule are the earliest ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from random import Random
from typing import Literal

import msgspec

Kind = Literal[
    "kill", "kill-most", "kill-all", "power", "power-all", "pause", "cut", "one-way-in", "one-way-out",
    "split", "bridge", "lossy", "slow", "full-disk", "clock", "roll", "handover", "drain", "demote",
]  # fmt: skip


class Shape(msgspec.Struct, frozen=True):
    """How often a kind is drawn, and how long it lasts (seconds, from and to)."""

    weight: float
    least: float
    most: float
    on_leader: float = 0.5


SHAPES: Mapping[Kind, Shape] = {
    "kill": Shape(3, 0.0, 0.0, 0.6),
    "kill-most": Shape(1, 0.0, 0.0, 0.5),
    "kill-all": Shape(1, 0.0, 0.0),
    "power": Shape(2, 0.5, 4.0, 0.6),
    "power-all": Shape(1, 0.2, 1.0),
    "pause": Shape(3, 1.0, 10.0, 0.6),
    "cut": Shape(2, 2.0, 8.0, 0.7),
    "one-way-in": Shape(1.5, 2.0, 8.0, 0.6),
    "one-way-out": Shape(1.5, 2.0, 8.0, 0.6),
    "split": Shape(1.5, 2.0, 8.0, 0.6),
    "bridge": Shape(1.5, 3.0, 8.0, 0.6),
    "lossy": Shape(1.5, 3.0, 8.0, 0.5),
    "slow": Shape(1.5, 3.0, 8.0, 0.5),
    "full-disk": Shape(1.5, 2.0, 6.0, 0.5),
    "clock": Shape(1.5, 2.0, 5.0, 0.5),
    "roll": Shape(1, 0.0, 0.0),
    "handover": Shape(1.5, 0.0, 0.0, 1.0),
    "drain": Shape(1, 1.0, 3.0, 0.7),
    "demote": Shape(1.5, 1.0, 4.0, 0.4),
}


class Fault(msgspec.Struct, frozen=True):
    """``at``, ``hold``, ``rest`` in seconds; ``amount``: a clock's step, percent of loss."""

    at: float
    kind: Kind
    target: str
    hold: float
    rest: float
    amount: int = 0

    def line(self) -> str:
        """For people."""
        amount = f" {self.amount:+d}" if self.amount else ""
        hold = f" for {self.hold:.1f} s" if self.hold else ""
        return f"{self.at:7.1f}  {self.kind} {self.target}{amount}{hold}"


def schedule(seed: int, nodes: Collection[str], seconds: float, kinds: Collection[Kind]) -> list[Fault]:
    """Faults for ``seconds``; every kind comes once before any comes twice, as far as the time suffices."""
    rng = Random(f"nemesis/{seed}")
    faults: list[Fault] = []
    at, fresh = rng.uniform(1.0, 3.0), sorted(kinds)
    while at < seconds:
        if not fresh:
            fresh = sorted(kinds)
        kind = rng.choices(fresh, [SHAPES[each].weight for each in fresh])[0]
        fresh.remove(kind)
        shape = SHAPES[kind]
        hold = round(rng.uniform(shape.least, shape.most), 1)
        rest = round(rng.uniform(1.5, 4.0), 1)
        faults.append(Fault(round(at, 1), kind, _target(rng, shape, nodes), hold, rest, _amount(rng, kind)))
        at += hold + rest + _EXPECTED_HEALING
    return faults


_EXPECTED_HEALING = 3.0


def _target(rng: Random, shape: Shape, nodes: Collection[str]) -> str:
    role = "leader" if rng.random() < shape.on_leader else "follower"
    return role if rng.random() < 0.8 else rng.choice(sorted(nodes))


def _amount(rng: Random, kind: Kind) -> int:
    if kind == "clock":
        return rng.choice((-1, 1)) * rng.choice((2, 60, 600, 1800))
    return rng.choice((20, 40, 60)) if kind == "lossy" else 0
