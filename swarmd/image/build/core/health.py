"""HEALTHCHECK: its flags and what it runs.  Pure."""

from __future__ import annotations

import re

from swarmd.image.build.core.flags import Flags
from swarmd.image.core.config import Healthcheck
from swarmd.model.errors import Invalid

_LEAST = 1_000_000  # nanoseconds; Docker refuses anything shorter
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PIECE = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_TIMES = ("interval", "timeout", "start-period", "start-interval")


def read_health(given: tuple[str, ...], args: tuple[str, ...], *, exec_form: bool) -> Healthcheck:
    """What the instruction asks for; ``args`` is its kind and the command.  Raises Invalid."""
    if not args:
        raise Invalid("HEALTHCHECK requires at least one argument")
    kind, command = args[0].upper(), args[1:]
    if kind == "NONE":
        if command:
            raise Invalid("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(test=("NONE",))
    if kind != "CMD":
        raise Invalid(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    if not command:
        raise Invalid("Missing command after HEALTHCHECK CMD")
    flags = Flags(given, {**dict.fromkeys(_TIMES, "text"), "retries": "text"})
    interval, timeout, start_period, start_interval = (_time(flags, name) for name in _TIMES)
    return Healthcheck(
        test=("CMD" if exec_form else "CMD-SHELL", *command),
        interval=interval,
        timeout=timeout,
        start_period=start_period,
        start_interval=start_interval,
        retries=_retries(flags.text("retries")),
    )


def _time(flags: Flags, name: str) -> int:
    text = flags.text(name)
    value = nanoseconds(text)
    if 0 < value < _LEAST or value < 0:
        raise Invalid(f'Interval "{name}" cannot be less than 1ms')
    return value


def nanoseconds(text: str) -> int:
    """A duration as Go writes it (``1h2m3.5s``); empty is 0.  Raises Invalid."""
    bare = text.removeprefix("-").removeprefix("+") if len(text) > 1 else text
    if bare in ("", "0"):
        return 0
    if not re.fullmatch(f"(?:{_PIECE.pattern})+", bare):
        why = "missing unit in" if re.fullmatch(r"[\d.]*\d[\d.]*", bare) else "invalid"
        raise Invalid(f'time: {why} duration "{text}"')
    total = sum(int(float(amount) * _UNITS[unit]) for amount, unit in _PIECE.findall(bare))
    return -total if text.startswith("-") else total


def _retries(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?\d{1,9}", text):
        raise Invalid(f'--retries takes a whole number, not "{text}"')
    if int(text) < 0:
        raise Invalid(f"--retries cannot be negative ({int(text)})")
    return int(text)
