"""The cluster of a test, clean before the next one; the nodes' logs when a test fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.clusters import IMAGES, REPOSITORY, Clusters
from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    subprocess.run(
        [sys.executable, str(REPOSITORY / "deploy" / "lab" / "build_images.py"), str(IMAGES)],
        check=True,
        capture_output=True,
    )
    # A short path: the nodes' sockets are below it.
    root = Path(tempfile.mkdtemp(prefix="lab", dir="/var/tmp"))
    made = Clusters(root)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root)


@pytest.fixture
def lab(clusters: Clusters) -> Iterator[Lab]:
    """Three nodes, one of them a manager, without a service."""
    yield from _clean(clusters.with_managers(1))


@pytest.fixture
def trio(clusters: Clusters) -> Iterator[Lab]:
    """Three managers, without a service."""
    yield from _clean(clusters.with_managers(3))


def _clean(lab: Lab) -> Iterator[Lab]:
    """The cluster for one test; afterwards its services and containers are gone and its nodes Ready again."""
    yield lab
    lab.repair()
    services = lab.ask("service", "ls", "-q").split()
    if services:
        lab.ask("service", "rm", *services)
    lab.until_ready()
    eventually("no container is left", lab.containers, lambda found: not any(found.values()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    fixtures = getattr(item, "funcargs", {})
    lab = fixtures.get("lab") or fixtures.get("trio")
    if report.failed and isinstance(lab, Lab):
        report.sections.append(("logs of the nodes", lab.log_tails()))
    return report  # type: ignore[return-value]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that want clusters of one shape run in a row: each other shape is a cluster to be made anew."""
    own = [place for place, item in enumerate(items) if item.get_closest_marker("cluster")]
    ordered = sorted((items[place] for place in own), key=_shape)
    for place, item in zip(own, ordered, strict=True):
        items[place] = item


def _shape(item: pytest.Item) -> int:
    wanted = getattr(item, "fixturenames", ())
    return 0 if "lab" in wanted else 1 if "trio" in wanted else 2
