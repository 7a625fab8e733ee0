"""``swarmctl``: the root of all commands; exit codes 0 done, 1 failed, 125 bad usage, 130 Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from swarmd.cli.errors import BAD_USAGE, FAILED, INTERRUPTED, CliError
from swarmd.cli.grammar import ArgumentCount, Group
from swarmd.model.errors import SwarmError

PORTS = "swarmd.cli.local.ports"

_COMMANDS = {
    "swarm": "swarmd.cli.commands.swarm:group",
    "node": "swarmd.cli.commands.node:group",
    "service": "swarmd.cli.commands.service:group",
    "network": "swarmd.cli.commands.network:group",
    "cluster": "swarmd.cli.commands.cluster:group",
    "image": "swarmd.cli.commands.image:group",
    "images": "swarmd.cli.commands.image:ls",
    "history": "swarmd.cli.commands.image:history",
    "rmi": "swarmd.cli.commands.image:rm",
    "tag": "swarmd.cli.commands.image:tag",
    "load": "swarmd.cli.commands.image_archive:load",
    "save": "swarmd.cli.commands.image_archive:save",
    "import": "swarmd.cli.commands.image_archive:import_",
    "commit": "swarmd.cli.commands.image_archive:commit",
    "system": "swarmd.cli.commands.disk:group",
    "build": "swarmd.cli.commands.build:build",
    "builder": "swarmd.cli.commands.builder:group",
    "registry": "swarmd.cli.commands.swarm_images:registry",
    "pull": "swarmd.cli.commands.registry:pull",
    "push": "swarmd.cli.commands.registry:push",
    "login": "swarmd.cli.commands.registry_login:login",
    "logout": "swarmd.cli.commands.registry_login:logout",
    "volume": "swarmd.cli.commands.volume:group",
    "secret": "swarmd.cli.commands.secret:group",
    "trust": "swarmd.cli.commands.trust:group",
    "events": "swarmd.cli.commands.events:events",
    "run": "swarmd.cli.commands.container_run:run",
    "create": "swarmd.cli.commands.container_run:create",
    "start": "swarmd.cli.commands.container_run:start",
    "stop": "swarmd.cli.commands.container_run:stop",
    "restart": "swarmd.cli.commands.container_run:restart",
    "rm": "swarmd.cli.commands.container_run:remove",
    "ps": "swarmd.cli.commands.container_list:ps",
    "inspect": "swarmd.cli.commands.container_list:inspect",
    "exec": "swarmd.cli.commands.container_session:execute",
    "attach": "swarmd.cli.commands.container_session:attach",
    "cp": "swarmd.cli.commands.container_copy:copy",
    "logs": "swarmd.cli.commands.container:logs",
    "top": "swarmd.cli.commands.container:top",
    "stats": "swarmd.cli.commands.container_stats:stats",
    "diff": "swarmd.cli.commands.container:diff",
    "pause": "swarmd.cli.commands.container:pause",
    "unpause": "swarmd.cli.commands.container:unpause",
    "kill": "swarmd.cli.commands.container:kill",
    "wait": "swarmd.cli.commands.container:wait",
    "update": "swarmd.cli.commands.container:update",
    "context": "swarmd.cli.commands.context:group",
    "info": "swarmd.cli.commands.system:info",
    "version": "swarmd.cli.commands.system:version",
    "completion": "swarmd.cli.commands.system:completion",
    "local": "swarmd.cli.local.commands:group",
}


@click.group("swarmctl", cls=Group, lazy=_COMMANDS)
@click.option("-c", "--context", metavar="NAME", help="Name of the context to use")
@click.option("-H", "--host", metavar="unix:///PATH", help="Socket of the daemon to connect to")
@click.option("--stale", is_flag=True, help="Show what this manager knows, however old; needs no leader")
def root(context: str | None, host: str | None, stale: bool) -> None:
    """A swarm of machines, run like one."""
    click.get_current_context().meta[PORTS] = make_local_ports


def make_local_ports() -> object:
    """How ``swarmctl local`` reaches its nodes; imported when it runs."""
    from swarmd.cli.local.ports import make_ports

    return make_ports()


def main() -> None:
    """Run this process's command line; ``swarmctl`` itself begins in :mod:`swarmd.cli.start`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; answers the exit code."""
    try:
        answer = root.main(args=list(arguments), prog_name="swarmctl", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        click.echo(help_wanted.format_message())
        return 0
    except click.UsageError as error:
        click.echo(usage_text(error), err=True)
        return BAD_USAGE
    except click.ClickException as error:
        click.echo(error.format_message(), err=True)
        return FAILED
    except CliError as error:
        click.echo(str(error), err=True)
        return error.exit_code
    except SwarmError as error:
        click.echo(str(error), err=True)
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # the reader has gone; keep the interpreter from flushing into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return answer if isinstance(answer, int) else 0


def usage_text(error: click.UsageError) -> str:
    """Docker's words for a command line that makes no sense."""
    path = error.ctx.command_path if error.ctx else "swarmctl"
    see = f"See '{path} --help'."
    if isinstance(error, click.NoSuchOption):
        return f"{_unknown_option(error.option_name)}\n{see}"
    if isinstance(error, ArgumentCount) and error.ctx:
        command = error.ctx.command
        usage = " ".join([path, *command.collect_usage_pieces(error.ctx)])
        return f"{error.message}\n{see}\n\nUsage:  {usage}\n\n{command.get_short_help_str(200)}"
    if isinstance(error, click.BadOptionUsage):
        return f"flag needs an argument: {error.option_name}\n{see}"
    return f"{error.format_message()}\n{see}"


def _unknown_option(name: str) -> str:
    if name.startswith("--"):
        return f"unknown flag: {name}"
    return f"unknown shorthand flag: '{name.lstrip('-')[:1]}' in {name}"


if __name__ == "__main__":
    main()
