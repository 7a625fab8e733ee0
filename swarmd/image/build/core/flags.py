"""Flags of an instruction (``--chown=…``, ``--link``), checked against those it knows.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Literal

from swarmd.model.errors import Invalid

Kind = Literal["text", "switch", "many"]

_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


def did_you_mean(word: str, known: tuple[str, ...]) -> str:
    """The end of an error about an unknown word: the known one that is like it, if there is any."""
    like = get_close_matches(word.lower(), [name.lower() for name in known], n=1)
    return next((f" (did you mean {name}?)" for name in known if like and name.lower() == like[0]), "")


def read_bool(text: str) -> bool | None:
    """True and false in all spellings that Go reads; None for anything else."""
    return True if text in _TRUE else False if text in _FALSE else None


class Flags:
    """What was given, by name without the dashes."""

    def __init__(self, given: tuple[str, ...], known: Mapping[str, Kind]) -> None:
        self._values: dict[str, list[str]] = {}
        for flag in given:
            name, equals, value = flag[2:].partition("=")
            kind = known.get(name)
            if kind is None:
                options = tuple(f"--{name}" for name in known)
                raise Invalid(f"unknown flag: --{name}{did_you_mean(f'--{name}', options)}")
            if name in self._values and kind != "many":
                raise Invalid(f"duplicate flag specified: --{name}")
            if kind == "switch":
                value = value if equals else "true"
                if read_bool(value) is None:
                    raise Invalid(f"expecting boolean value for flag --{name}, not: {value}")
            elif not equals:
                raise Invalid(f"missing a value on flag: --{name}")
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """The value, or empty."""
        return self._values.get(name, [""])[0]

    def many(self, name: str) -> tuple[str, ...]:
        """All values, in order."""
        return tuple(self._values.get(name, ()))

    def switch(self, name: str) -> bool | None:
        """Whether it is on; None when it was not given."""
        return read_bool(self._values[name][0]) if name in self._values else None
