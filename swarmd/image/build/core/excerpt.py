"""Where in a Dockerfile something went wrong, as BuildKit shows it.

::

    Dockerfile:3
    --------------------
       2 |     COPY . .
       3 | >>> RUN make
       4 |
    --------------------
"""

from __future__ import annotations

from collections.abc import Sequence

_RULE = "-" * 20
_AROUND = 2


def excerpt(name: str, text: str, first: int, last: int) -> str:
    """The lines ``first`` to ``last`` (from 1) of a file called ``name``, with two around them.

    Empty for an instruction that stands in no file.
    """
    lines = text.splitlines()
    if first < 1 or first > len(lines):
        return ""
    begin, end = max(1, first - _AROUND), min(len(lines), last + _AROUND)
    shown = [
        f"{number:>4} | {'>>>' if first <= number <= last else '   '} {lines[number - 1]}"
        for number in range(begin, end + 1)
    ]
    return "\n".join([f"{name}:{first}", _RULE, *shown, _RULE])


def command_line(args: Sequence[str]) -> str:
    """How a failed command is named."""
    return " ".join(args)
