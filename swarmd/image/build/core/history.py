"""How an image's history names what was done: the words of Docker's builder.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.image.core.config import Healthcheck

_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
MARK = " # buildkit"


def ran(args: tuple[str, ...], declared: Mapping[str, str]) -> str:
    """``RUN |1 X=2 /bin/sh -c make``: the build arguments in scope, then the command."""
    scope = (
        (f"|{len(declared)}", *(f"{name}={value}" for name, value in declared.items())) if declared else ()
    )
    return " ".join(("RUN", *scope, *args)) + MARK


def copied(*, add: bool, flags: tuple[str, ...], what: tuple[str, ...], destination: str) -> str:
    """``COPY --chown=app src /dst``."""
    return " ".join(("ADD" if add else "COPY", *flags, *what, destination)) + MARK


def listed(keyword: str, values: tuple[str, ...]) -> str:
    """``VOLUME [/a /b]``."""
    return f"{keyword} [{' '.join(values)}]"


def quoted(keyword: str, values: tuple[str, ...]) -> str:
    """``CMD ["a" "b c"]``."""
    return f"{keyword} [{' '.join(map(quote, values))}]"


def health(check: Healthcheck) -> str:
    """``HEALTHCHECK {Test:[CMD-SHELL true] Interval:30s …}``."""
    times = (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    )
    shown = " ".join(f"{name}:{duration(value)}" for name, value in times)
    return f"HEALTHCHECK {{Test:[{' '.join(check.test or ())}] {shown} Retries:{check.retries}}}"


def duration(nanoseconds: int) -> str:
    """As Go prints it: ``1h2m3.5s``, ``1.5ms``, ``0s``."""
    if 0 < nanoseconds < 10**9:
        unit, size = next((u, s) for u, s in (("ms", 10**6), ("µs", 10**3), ("ns", 1)) if nanoseconds >= s)
        return f"{_number(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{_number(rest, 10**9)}s"


def _number(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = f"{part:0{len(str(unit)) - 1}d}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def quote(text: str) -> str:
    """A string as Go writes it in source."""
    return '"' + "".join(_quoted(char) for char in text) + '"'


def _quoted(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
