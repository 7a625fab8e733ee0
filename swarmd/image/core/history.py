"""What ``image history`` says: the steps that made an image, newest first, with the bytes of each.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from swarmd.image.core.config import History


class Step(msgspec.Struct, frozen=True):
    """``created``: seconds since 1970, 0: unknown.  ``size``: bytes of the layer it made, 0 when none."""

    created: float = 0.0
    created_by: str = ""
    comment: str = ""
    size: int = 0


def steps(history: Sequence[History], sizes: Sequence[int]) -> tuple[Step, ...]:
    """``sizes``: bytes of each layer, bottom first.

    Layers that the history does not tell of are steps without words, above those it does; a step that claims
    a layer which is not there has made none.
    """
    found: list[Step] = []
    rest = list(sizes)
    for each in history:
        size = rest.pop(0) if rest and not each.empty_layer else 0
        found.append(Step(each.created, each.created_by, each.comment, size))
    found += [Step(size=size) for size in rest]
    return tuple(reversed(found))
