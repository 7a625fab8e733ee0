"""Signal names and numbers, as users write them: TERM, SIGTERM, 15, RTMIN+3."""

from __future__ import annotations

from swarmd.model.errors import Invalid

_ORDER = """
HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG
XCPU XFSZ VTALRM PROF WINCH IO PWR SYS
"""
_NUMBERS = {name: number for number, name in enumerate(_ORDER.split(), 1)} | {
    "IOT": 6, "CLD": 17, "POLL": 29, "RTMIN": 34, "RTMAX": 64,
}  # fmt: skip
_LAST = 64


def signal_number(text: str) -> int:
    """The number of a signal; :class:`Invalid` when there is no such signal."""
    name = text.strip().upper().removeprefix("SIG")
    if name.isdecimal():
        number = int(name)
    else:
        base, sign, offset = _split(name)
        number = _NUMBERS.get(base, 0)
        if sign:
            number = (number + sign * int(offset)) if base in ("RTMIN", "RTMAX") and offset.isdecimal() else 0
    if not 1 <= number <= _LAST:
        raise Invalid(
            f"signal {text!r} does not exist; use a name like SIGTERM or a number from 1 to {_LAST}"
        )
    return number


def _split(name: str) -> tuple[str, int, str]:
    for mark, sign in (("+", 1), ("-", -1)):
        base, found, offset = name.partition(mark)
        if found:
            return base, sign, offset
    return name, 0, ""
