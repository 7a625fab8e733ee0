"""``swarmctl service``: the group; each verb lives in a module of its own."""

from __future__ import annotations

import click

from swarmd.cli.grammar import Group

_HERE = "swarmd.cli.commands"


@click.group(
    "service",
    cls=Group,
    lazy={
        "create": f"{_HERE}.service_create:create",
        "update": f"{_HERE}.service_update:update",
        "rollback": f"{_HERE}.service_update:rollback",
        "scale": f"{_HERE}.service_scale:scale",
        "rm": f"{_HERE}.service_read:rm",
        "ls": f"{_HERE}.service_read:ls",
        "inspect": f"{_HERE}.service_read:inspect",
        "ps": f"{_HERE}.task_list:service_ps",
        "logs": f"{_HERE}.service_logs:logs",
    },
)
def group() -> None:
    """Manage swarm services."""


group.aliases = {"list": "ls", "remove": "rm"}
