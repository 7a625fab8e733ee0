"""Tests of clusters in processes of their own, beside all the others; reported here as if they had run here.

They mostly wait, so that all together take little longer than the slowest part::

    this process          what is not marked ``cluster``
    a second one          tests of the fixture ``trio``, the cluster with three managers
    a third one           all other tests of clusters

``make test`` loads this with ``-p tests.beside``; without it, or when only tests of clusters were chosen, all
run here, one after the other.  Of pytest's options the others are given ``--tb`` and a ``--basetemp`` each;
which tests they run is said by their ids.  Their warnings are not passed on.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

MEEKER = 5
"""The niceness here: daemons of clusters are expected to be back in time, and use little of it."""

TIDY_SECONDS = 120.0
"""For another process to remove its cluster when the tests here were ended early."""

_PR_SET_PDEATHSIG = 1
_TAIL_CHARACTERS = 20_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reports-to", metavar="FILE", help="write each report there (used by tests/beside.py)")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--reports-to")
    if path:
        # Whatever ends who waits for the reports ends this process as Ctrl-C does: it removes its cluster.
        # (What a script starts in the background is born deaf to that signal.)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        config.pluginmanager.register(Telling(config, Path(path)))


class Telling:
    """In another process: writes every report to a file, a line each."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._file = path.open("a")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        # In ASCII: who reads while this is written may see the half of a character.
        print(ascii(data), file=self._file, flush=True)


def _place(item: pytest.Item) -> str:
    """The name of the process it runs in; "" for this one."""
    if not item.get_closest_marker("cluster"):
        return ""
    return "trio" if "trio" in getattr(item, "fixturenames", ()) else "others"


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    chosen, places = list(session.items), defaultdict[str, list[pytest.Item]](list)
    for item in chosen:
        places[_place(item)].append(item)
    here, options = places.pop("", []), session.config.option
    if options.collectonly or options.usepdb or session.testsfailed or not here or not places:
        return (yield)
    with tempfile.TemporaryDirectory(prefix="beside") as directory, contextlib.ExitStack() as running:
        besides = [Beside(session, items, Path(directory, place)) for place, items in places.items()]
        for beside in besides:
            running.callback(beside.end)
        session.items = here
        running.callback(setattr, session, "items", chosen)
        os.nice(MEEKER)
        result = yield
        for beside in besides:
            beside.pass_on()
    return result


class Beside:
    """Another process, and what it reports."""

    def __init__(self, session: pytest.Session, items: list[pytest.Item], directory: Path) -> None:
        self._session = session
        self._hook = session.config.hook
        self._missing = {item.nodeid: item for item in items}
        self._begun: set[str] = set()
        directory.mkdir()
        ids, reports = directory / "ids", directory / "reports"
        ids.write_text("".join(f"{item.nodeid}\n" for item in items))
        reports.touch()
        self._reports = reports.open()
        self._line = ""
        self._output = directory / "output"
        with self._output.open("wb") as output:
            # A process group of its own: Ctrl-C reaches it once, by end().
            self._process = subprocess.Popen(
                [*self._command(directory.name), f"--reports-to={reports}", f"@{ids}"],
                cwd=session.config.rootpath,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def _command(self, place: str) -> Iterator[str]:
        options = self._session.config.option
        yield from (sys.executable, "-m", "pytest", "-p", "tests.beside", "-p", "no:cacheprovider")
        yield f"--tb={options.tbstyle}"
        if options.basetemp:
            yield f"--basetemp={options.basetemp}-{place}"

    def pass_on(self) -> None:
        """Report what it reports until it ends; what it never reported the end of is an error."""
        while self._process.poll() is None:
            self._pass_on_new()
            if self._session.shouldfail:
                raise self._session.Failed(self._session.shouldfail)
            time.sleep(0.2)
        self._pass_on_new()
        code, said = self._process.returncode, self._output.read_text(errors="replace")[-_TAIL_CHARACTERS:]
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not self._missing:
            raise pytest.UsageError(f"the tests of clusters ended with code {code}:\n{said}")
        for item in list(self._missing.values()):
            self._report(
                _lost(item, f"The tests of clusters ended (code {code}) before this one did.\n{said}")
            )
            said = ""

    def _pass_on_new(self) -> None:
        for part in self._reports:
            self._line += part
            if not self._line.endswith("\n"):
                return
            data, self._line = ast.literal_eval(self._line), ""
            self._report(self._hook.pytest_report_from_serializable(config=self._session.config, data=data))

    def _report(self, report: pytest.TestReport) -> None:
        if report.nodeid not in self._begun:
            self._begun.add(report.nodeid)
            self._hook.pytest_runtest_logstart(nodeid=report.nodeid, location=report.location)
        self._hook.pytest_runtest_logreport(report=report)
        if report.when == "teardown":
            self._missing.pop(report.nodeid, None)
            self._hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)

    def end(self) -> None:
        """End it if it still runs, so that it removes its cluster."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(TIDY_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reports.close()


def _lost(item: pytest.Item, said: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid, location=item.location, keywords={}, outcome="failed", longrepr=said, when="setup"
    )
