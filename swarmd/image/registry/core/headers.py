"""What headers of a registry's answers say.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

_LINK = re.compile(r'<([^<>]*)>\s*((?:;\s*[\w-]+\s*=\s*(?:"[^"]*"|[^\s;,]*)\s*)*)', re.ASCII)
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.ASCII)
_WARNING = re.compile(r'\s*299\s+\S+\s+"((?:[^"\\]|\\.)*)"', re.ASCII)


def next_page(links: Iterable[str], base: str) -> str:
    """The address of the page after this one; empty when it is the last."""
    for header in links:
        for target, about in _LINK.findall(header):
            if re.search(r'\brel\s*=\s*"?next\b', about):
                return str(urljoin(base, target))
    return ""


def received(header: str) -> int:
    """Bytes that an upload has, by its ``Range: 0-<last>``; 0 when nothing is said."""
    found = _RANGE.fullmatch(header.strip())
    last = int(found[1]) if found else 0
    # Of an upload without a byte some registries say 0-0, as of one with a single byte.
    return last + 1 if last else 0


def begins_at(header: str) -> int | None:
    """The first byte in a partial answer; None when it does not say."""
    found = _CONTENT_RANGE.fullmatch(header.strip())
    return int(found[1]) if found else None


def seconds_until(header: str, now: float) -> float | None:
    """``Retry-After`` in seconds, given so or as a date; None when it does not say."""
    text = header.strip()
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def warnings(headers: Iterable[str]) -> tuple[str, ...]:
    """Sentences for the user, of ``Warning: 299 - "..."``."""
    found = (_WARNING.match(header) for header in headers)
    texts = (re.sub(r"\\(.)", r"\1", match[1]) for match in found if match)
    return tuple("".join(char for char in text if char.isprintable())[:500] for text in texts)


def quota(limit: str, remaining: str) -> str:
    """What is left of a registry's allowance (``100;w=21600``) in words; empty when it does not say."""
    allowed, _, window = limit.partition(";w=")
    if not allowed.strip().isdecimal():
        return ""
    left = remaining.partition(";")[0].strip()
    per = f" in {_span(int(window))}" if window.isdecimal() else ""
    return f"{left if left.isdecimal() else 'none'} of {allowed.strip()} pulls{per} left"


def _span(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds % 3600 == 0 and seconds else f"{seconds} s"
