"""What contexts brought, and what becomes of it when the machine stops."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from itertools import count
from pathlib import Path

import pytest

from swarmd.model.errors import Unavailable
from swarmd.node.building.spool import Spool

DATA = b"content" * 100
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("what", ["cut short", "gone", "whole"])
def test_a_file_that_did_not_get_to_the_disk_is_asked_for_again(tmp_path: Path, what: str) -> None:
    database, ids = sqlite3.connect(":memory:"), count()
    spool = Spool(tmp_path, database, threading.Lock(), lambda: f"s{next(ids)}")
    writing = spool.begin()
    writing.write(DATA)
    piece = writing.end_file(DIGEST)
    writing.end(1.0)
    assert spool.find([DIGEST]) == {DIGEST: piece}
    segment = tmp_path / piece.segment
    if what == "whole":
        fd = spool.open(piece)
        assert os.read(fd, len(DATA)) == DATA
        os.close(fd)
        return
    if what == "gone":
        segment.unlink()
    else:
        os.truncate(segment, len(DATA) - 1)
    with pytest.raises(Unavailable, match="build again"):
        spool.open(piece)
    assert spool.find([DIGEST]) == {}
    database.close()
