"""What goes wrong, said where those who call a runtime look for it: the log file and standard error."""

from __future__ import annotations

import os
import time

import msgspec

from swarmd.model.errors import Invalid

_FORMATS = ("text", "json")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Reporter:
    """Lines as crun writes them; with a log file errors go to both."""

    def __init__(self, log: str = "", log_format: str = "text", *, debug: bool = False) -> None:
        if log_format not in _FORMATS:
            raise Invalid(f"--log-format {log_format!r}: use text or json")
        self._json = log_format == "json"
        self._debug = debug
        # Opened at once: later the file may be out of sight.
        self._fd = os.open(log, _APPEND, 0o600) if log else -1

    def error(self, text: str) -> None:
        self._write("error", text)

    def warning(self, text: str) -> None:
        self._write("warning", text)

    def debug(self, text: str) -> None:
        if self._debug:
            self._write("debug", text)

    def _write(self, level: str, text: str) -> None:
        now = timestamp()
        if self._json:
            line = msgspec.json.encode({"msg": text, "level": level, "time": now}).decode()
        else:
            line = f"{now}: {text}" if self._fd >= 0 else text
        if self._fd >= 0:
            os.write(self._fd, f"{line}\n".encode(errors="replace"))
            line = text
        if self._fd < 0 or level == "error":
            os.write(2, f"{line}\n".encode(errors="replace"))


def timestamp() -> str:
    """Now, as in ``2026-01-02T03:04:05.678901Z``."""
    seconds, nanoseconds = divmod(time.clock_gettime_ns(time.CLOCK_REALTIME), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds // 1000:06d}Z"
