"""Every call says for whom it is, and the page for users shows it."""

from __future__ import annotations

import re
import subprocess
import sys

from deploy.setup.api_reference import methods
from swarmd.rpc import audience
from tests.architecture import source


def test_every_call_of_every_proto_file_declares_its_audience() -> None:
    proto = "".join(path.read_text() for path in (source.ROOT / "proto").rglob("*.proto"))
    assert len(methods()) == len(re.findall(r"^\s*rpc ", proto, re.MULTILINE))
    assert [path for path, one in methods().items() if audience.declared(one) == audience.NOBODY] == []


def test_the_page_shows_who_may_make_which_call() -> None:
    command = [sys.executable, "deploy/setup/api_reference.py", "--check"]
    done = subprocess.run(command, cwd=source.ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
