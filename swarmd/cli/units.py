"""Amounts as people write and read them: Go durations, sizes, CPUs, "3 minutes ago".  Pure.

Seconds are floats, sizes bytes, CPUs nano-CPUs, times seconds since 1970.  Parsers raise ValueError with a
sentence.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal, InvalidOperation

NANO = 10**9
_UNIT_NANOS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": NANO,
    "m": 60 * NANO,
    "h": 3600 * NANO,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: ``2s``, ``1m30s``, ``500ms``, ``0``."""
    if text == "0":
        return 0.0
    parts = list(_PART.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text:
        problem = "missing unit in" if re.fullmatch(r"\d+\.?\d*", text) else "invalid"
        raise ValueError(f'time: {problem} duration "{text}" (write 30s, 1m30s or 500ms)')
    return float(sum(Decimal(part[1]) * _UNIT_NANOS[part[2]] for part in parts) / NANO)


def format_duration(seconds: float) -> str:
    """As Go prints one: ``5s``, ``1m30s``, ``2160h0m0s``, ``1.5s``, ``500ms``."""
    nanos = nanoseconds(seconds)
    if nanos == 0:
        return "0s"
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    if nanos < NANO:
        unit = "ms" if nanos >= 10**6 else "µs" if nanos >= 1000 else "ns"
        return f"{sign}{_plain(Decimal(nanos) / _UNIT_NANOS[unit])}{unit}"
    hours, rest = divmod(nanos, 3600 * NANO)
    minutes, rest = divmod(rest, 60 * NANO)
    text = f"{_plain(Decimal(rest) / NANO)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return sign + (f"{hours}h{text}" if hours else text)


def nanoseconds(seconds: float) -> int:
    """Whole nanoseconds, as Docker's JSON has them."""
    return int(Decimal(repr(seconds)) * NANO)


def parse_size(text: str) -> int:
    """Bytes of ``512m``, ``1g``, ``1.5GiB``, ``4096`` (units are powers of 1024)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    power = " kmgtp".index(match[2].lower() or " ")
    return int(Decimal(match[1]) * 1024**power)


def parse_cpus(text: str) -> int:
    """Nano-CPUs of ``0.5`` or ``2``."""
    try:
        nanos = Decimal(text) * NANO
    except InvalidOperation:
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if not nanos.is_finite() or nanos < 0:
        raise ValueError(f"{text} is no number of CPUs")
    if nanos != nanos.to_integral_value():
        raise ValueError("value is too precise")
    return int(nanos)


def format_cpus(nano_cpus: int) -> str:
    """``0.5``, ``2``."""
    return _plain(Decimal(nano_cpus) / NANO)


def format_binary(size: int) -> str:
    """``23.54GiB``: four digits, units of 1024."""
    return _scaled(size, 1024, _BINARY, 4)


def format_decimal(size: int, digits: int = 3) -> str:
    """``4.26MB``: so many digits, units of 1000."""
    return _scaled(size, 1000, _DECIMAL, digits)


def human_duration(seconds: float) -> str:
    """``Less than a second``, ``6 seconds``, ``About a minute``, ``3 minutes``, ``2 weeks``."""
    whole, minutes, hours = int(seconds), int(seconds / 60), int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    return _human_days(hours, int(seconds / 3600))


def rfc3339(at: float) -> str:
    """``2026-11-23T16:31:19.667514Z``, as Docker's JSON has times."""
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    fraction = f"{moment.microsecond:06d}".rstrip("0")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}Z"


def parse_since(text: str, now: float) -> float:
    """A point in time: RFC 3339, seconds since 1970, or a Go duration before ``now``."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - parse_duration(text)
        except ValueError:
            raise ValueError(
                f'"{text}" is no point in time (write 2026-01-02T15:04:05Z, seconds since 1970, or 42m)'
            ) from None
    return moment.timestamp()


def _human_days(hours: int, whole_hours: int) -> str:
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{whole_hours // 24 // 365} years"


def _scaled(size: int, base: int, units: tuple[str, ...], digits: int) -> str:
    value, index = float(size), 0
    while value >= base and index < len(units) - 1:
        value, index = value / base, index + 1
    return f"{value:.{digits}g}{units[index]}"


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
