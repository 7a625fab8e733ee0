"""``--chmod``: octal, or symbolic as in chmod(1)."""

from __future__ import annotations

import re

from swarmd.model.errors import Invalid

_OCTAL = re.compile(r"[0-7]{1,4}")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*|[-+=][ugo])+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def changed(text: str, mode: int, *, is_directory: bool) -> int:
    """``mode`` after ``--chmod=text``.  Raises Invalid."""
    if not text:
        return mode
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise Invalid(f'invalid chmod parameter: "{text}": write octal digits (0755) or u=rwX,go=rX')
        for sign, what in _ACTION.findall(match[2]):
            mode = _applied(mode, match[1] or "a", sign, what, is_directory=is_directory)
    return mode


def _applied(mode: int, who: str, sign: str, what: str, *, is_directory: bool) -> int:
    bits = special = 0
    whom = "ugo" if "a" in who else who
    executable = is_directory or bool(mode & 0o111)
    for one in whom:
        shift = _SHIFTS[one]
        bits |= _rights(mode, what, executable=executable) << shift
        special |= 7 << shift
    if "s" in what:
        bits |= (0o4000 if "u" in whom else 0) | (0o2000 if "g" in whom else 0)
    if "t" in what and ("a" in who or who == "o"):
        bits |= 0o1000
    if sign == "+":
        return mode | bits
    if sign == "-":
        return mode & ~bits
    return (mode & ~special) | bits


def _rights(mode: int, what: str, *, executable: bool) -> int:
    if what in _SHIFTS and what:
        return (mode >> _SHIFTS[what]) & 7
    rights = 0
    for letter in what:
        rights |= _BITS.get(letter, 0)
        if letter == "X" and executable:
            rights |= 1
    return rights
