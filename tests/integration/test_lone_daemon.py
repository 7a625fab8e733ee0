"""A real daemon by itself: what others may see of it, and a membership that cannot be read."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus_text

from swarmd import __version__
from swarmd.daemon import daemon as daemon_module
from swarmd.daemon.config import Config
from swarmd.daemon.daemon import Daemon
from swarmd.daemon.metrics_config import MetricsConfig
from swarmd.kit.clock import SystemClock
from tests.integration.held_port import held_port

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room for those of sockets."""
    with tempfile.TemporaryDirectory(prefix="edge", dir="/var/tmp") as directory:
        yield Path(directory)


class NoNetwork:
    """In place of this machine's own."""

    cleaned = False

    async def start(self) -> Any:
        return type("Found", (), {"missing": ()})()

    async def stop(self, *, clean: bool) -> None:
        self.cleaned = clean


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_nobody_but_root_gets_at_what_a_daemon_keeps(short_path: Path) -> None:
    data, run = short_path / "data", short_path / "run"
    data.mkdir(mode=0o755)
    daemon = Daemon(Config(data_dir=str(data), run_dir=str(run)), SystemClock())
    await daemon.start()
    try:
        assert mode(data) == 0o700, "also one that was there before, with another mode"
        assert mode(run / "swarmd.sock") == 0o660
        assert mode(run / "spawnd.sock") == 0o600
        assert daemon.info().swarm_state == "inactive"
    finally:
        await daemon.stop()
    assert not (run / "swarmd.sock").exists()


@pytest.fixture
def port() -> Iterator[int]:
    with held_port() as held:
        yield held


async def test_metrics_are_served_over_http_and_a_taken_address_keeps_no_daemon_from_starting(
    short_path: Path, port: int
) -> None:
    address = f"127.0.0.1:{port}"
    settings = MetricsConfig(listen=address)
    with socket.create_server(("127.0.0.1", port)):
        daemon = _with_metrics(short_path / "one", settings)
        await daemon.start()
        try:
            (warning,) = [text for text in daemon.info().warnings if "metrics" in text]
            assert f"the metrics page cannot listen on {address}: address already in use" in warning
        finally:
            await daemon.stop()
    daemon = _with_metrics(short_path / "two", settings)
    await daemon.start()
    try:
        assert [text for text in daemon.info().warnings if "metrics" in text] == []
        for accept, parse in (
            ("text/plain", prometheus_text),
            ("application/openmetrics-text", open_metrics),
        ):
            page = await asyncio.to_thread(_fetched, f"http://{address}/metrics", accept)
            found = {family.name: family for family in parse(page)}
            (engine,) = found["engine_daemon_engine_info"].samples
            assert (engine.value, engine.labels["version"]) == (1.0, __version__)
            errors = found["swarmd_scrape_errors"].samples
            assert {sample.value for sample in errors} == {0.0}
    finally:
        await daemon.stop()


def _with_metrics(directory: Path, settings: MetricsConfig) -> Daemon:
    directory.mkdir()
    config = Config(data_dir=str(directory / "data"), run_dir=str(directory / "run"), metrics=settings)
    return Daemon(config, SystemClock())


def _fetched(url: str, accept: str) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(urllib.request.Request(url, headers={"Accept": accept}), timeout=60) as answer:
        return str(answer.read().decode())


async def test_a_daemon_whose_membership_is_damaged_starts_says_so_and_can_leave(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = NoNetwork()
    monkeypatch.setattr(daemon_module, "Network", lambda *_, **__: network)
    (short_path / "data").mkdir(mode=0o700)
    (short_path / "data" / "node.json").write_bytes(b"{")
    daemon = Daemon(Config(data_dir=str(short_path / "data"), run_dir=str(short_path / "run")), SystemClock())
    await daemon.start()
    try:
        info = daemon.info()
        assert (info.swarm_state, info.error.count("node.json is damaged")) == ("error", 1)
        await daemon.leave_swarm(force=True)
        assert (daemon.info().swarm_state, daemon.info().error) == ("inactive", "")
        assert not (short_path / "data" / "node.json").exists()
        assert network.cleaned
    finally:
        await daemon.stop()
