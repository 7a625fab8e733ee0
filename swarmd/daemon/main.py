"""``swarmd``: flags, signals, the event loop."""

from __future__ import annotations

import os

# The daemon never forks; gRPC's handlers would only get in the way of starting `nft` and the spawner.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import structlog

from swarmd import __version__
from swarmd.daemon import config as settings
from swarmd.daemon.daemon import Daemon
from swarmd.daemon.tools.commands import raft, recover
from swarmd.daemon.tools.registry_user import registry_user
from swarmd.kit.clock import Clock, SystemClock
from swarmd.model.errors import SwarmError
from swarmd.model.replace import replace
from swarmd.telemetry import logging


@click.group(invoke_without_command=True, context_settings={"auto_envvar_prefix": "SWARMD"})
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option("--data-dir", help="What survives reboots (default /var/lib/swarmd).")
@click.option("--run-dir", help="Sockets (default /run/swarmd).")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-file", help="Where logs go instead of standard error.")
@click.option("--advertise-addr", help="IP or interface that others reach this node at, from now on.")
@click.option("--runtime", help="What runs containers that name none: local, crun, runc, runsc.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Engine label of this node.")
@click.version_option(__version__, prog_name="swarmd")
@click.pass_context
def main(
    context: click.Context,
    config_file: Path | None,
    data_dir: str | None,
    run_dir: str | None,
    log_level: str | None,
    log_file: str | None,
    advertise_addr: str | None,
    runtime: str | None,
    labels: tuple[str, ...],
) -> None:
    """The swarmd daemon: one on every machine of the swarm.  The commands work on its data directory."""
    try:
        flags = {"data_dir": data_dir, "run_dir": run_dir, "log_level": log_level, "log_file": log_file}
        config = _effective(
            config_file, flags | {"advertise_addr": advertise_addr, "runtime": runtime}, labels
        )
        context.obj = config
        if context.invoked_subcommand is not None:
            return
        if os.geteuid() != 0:
            raise click.ClickException("swarmd needs root: it makes namespaces, cgroups and mounts")
        os.umask(0o022)  # the modes of images' files and of sockets must not depend on who started this
        logging.configure(config.log_level, Path(config.log_file) if config.log_file else None)
        _run(config)
    except SwarmError as error:
        raise click.ClickException(str(error)) from error


def _effective(
    config_file: Path | None, flags: Mapping[str, str | None], labels: tuple[str, ...]
) -> settings.Config:
    config = settings.load(config_file)
    given = {name: value for name, value in flags.items() if value is not None}
    more = {key: value for key, _, value in (label.partition("=") for label in labels)}
    return replace(config, **given, labels={**config.labels, **more})


def _run(config: settings.Config) -> None:
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    except ImportError:
        structlog.get_logger().warning(
            "uvloop_missing", effect="the mesh's proxy and TLS cost about twice the CPU"
        )
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_main(config))


async def _main(config: settings.Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(config, SystemClock(), stop)


async def run(config: settings.Config, clock: Clock, stop: asyncio.Event) -> None:
    """From start to the stop signal."""
    daemon = Daemon(config, clock)
    await daemon.start()
    try:
        await stop.wait()
    finally:
        await daemon.stop()


main.add_command(recover)
main.add_command(raft)
main.add_command(registry_user)

if __name__ == "__main__":
    sys.exit(main())
