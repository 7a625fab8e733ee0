"""Logs of the daemon: events with fields, as JSON on a pipe and readable on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import structlog


def configure(level: str, file: Path | None) -> None:
    """Send everything, foreign loggers too, to ``file`` or standard error.  level: debug, info, ..."""
    stream: TextIO = sys.stderr if file is None else _private(file)
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if stream.isatty() else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(is_news)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=False,
    )


def is_news(record: logging.LogRecord) -> bool:
    """Not that a caller hung up while an answer was on its way, for which gRPC has a traceback."""
    return not (
        record.name.startswith("grpc.") and str(record.msg).startswith("ExecuteBatchError raised in core")
    )


def _private(file: Path) -> TextIO:
    """Opened to append; logs name addresses, ids and errors, which are root's business."""
    return open(file, "a", buffering=1, opener=lambda path, flags: os.open(path, flags, 0o600))
