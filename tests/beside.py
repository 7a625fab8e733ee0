"""Tests of clusters in a process of their own, beside all the others; reported here as if they had run here.

Those mostly wait and these mostly compute, so that both together take little longer than the slower of them.
``make test`` loads this with ``-p tests.beside``; without it, or when only one of the two kinds was chosen,
all tests run one after the other.  Of pytest's options the other process is given ``--tb`` and its own
``--basetemp``; which tests run is said by their ids.  Its warnings are not passed on.
"""

from __future__ import annotations

import ast
import ctypes
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

MARK = "cluster"
TIDY_SECONDS = 120.0
"""For the other process to remove its cluster when the tests here were ended early."""

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
    """In the other process: writes every report to a file, a line each."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._file = path.open("a")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        print(repr(data), file=self._file, flush=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    chosen = list(session.items)
    apart = [item for item in chosen if item.get_closest_marker(MARK)]
    options = session.config.option
    if options.collectonly or options.usepdb or session.testsfailed or len(apart) in (0, len(chosen)):
        return (yield)
    with tempfile.TemporaryDirectory(prefix="beside") as directory:
        beside = Beside(session, apart, Path(directory))
        try:
            session.items = [item for item in chosen if item not in set(apart)]
            result = yield
            beside.pass_on()
        finally:
            session.items = chosen
            beside.end()
    return result


class Beside:
    """The other process, and what it reports."""

    def __init__(self, session: pytest.Session, items: list[pytest.Item], directory: Path) -> None:
        self._session = session
        self._hook = session.config.hook
        self._missing = {item.nodeid: item for item in items}
        self._begun: set[str] = set()
        ids, reports = directory / "ids", directory / "reports"
        ids.write_text("".join(f"{item.nodeid}\n" for item in items))
        reports.touch()
        self._reports = reports.open()
        self._line = ""
        self._output = directory / "output"
        with self._output.open("wb") as output:
            # A process group of its own: Ctrl-C reaches it once, by end().
            self._process = subprocess.Popen(
                [*self._command(), f"--reports-to={reports}", f"@{ids}"],
                cwd=session.config.rootpath,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def _command(self) -> Iterator[str]:
        options = self._session.config.option
        yield from (sys.executable, "-m", "pytest", "-p", "tests.beside", "-p", "no:cacheprovider")
        yield f"--tb={options.tbstyle}"
        if options.basetemp:
            yield f"--basetemp={options.basetemp}-{MARK}"

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
