"""What of foreign loggers goes into the daemon's log."""

from __future__ import annotations

import logging

import pytest

from swarmd.telemetry.logging import is_news


@pytest.mark.parametrize(
    ("logger", "text", "news"),
    [
        ("grpc._cython.cygrpc", "ExecuteBatchError raised in core by servicer method [%s]", False),
        ("grpc._cython.cygrpc", "Unexpected [%s] raised by servicer method [%s]", True),
        ("swarmd", "ExecuteBatchError raised in core", True),
    ],
)
def test_a_caller_that_hung_up_is_no_news(logger: str, text: str, news: bool) -> None:
    record = logging.LogRecord(logger, logging.ERROR, "", 0, text, ("x",), None)
    assert is_news(record) is news
