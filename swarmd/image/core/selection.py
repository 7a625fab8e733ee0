"""Which images a prune is about: by age and by label.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class Selection(msgspec.Struct, frozen=True):
    """``until``: only what is older, seconds since 1970, 0: of any age.

    ``labels``: only what has all of them, ``without``: only what has none of them (``key`` or ``key=value``).
    """

    until: float = 0.0
    labels: Sequence[str] = ()
    without: Sequence[str] = ()

    @property
    def is_all(self) -> bool:
        """Whether it takes everything."""
        return not (self.until or self.labels or self.without)

    def takes(self, created: float, labels: Mapping[str, str]) -> bool:
        """Whether something made then, with these labels, is meant."""
        return (
            (not self.until or created < self.until)
            and all(_has(labels, want) for want in self.labels)
            and not any(_has(labels, want) for want in self.without)
        )


def _has(labels: Mapping[str, str], want: str) -> bool:
    key, equals, value = want.partition("=")
    return key in labels and (not equals or labels[key] == value)
