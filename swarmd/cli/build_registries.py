"""A build and registries: which log-ins its base images may need, and the push that follows it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarmd.cli import logins
from swarmd.cli.errors import CliError

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import registry_pb2

_IMAGES = rb"^[ \t]*FROM[ \t]+(?:--\S+[ \t]+)*(\S+)|--from=(\S+)|\bfrom=([^\s,]+)"


def logins_for(dockerfile: bytes) -> list[registry_pb2.RegistryLogin]:
    """What this user has for the registries that a Dockerfile names.

    A name that is made of variables is not understood here: then the swarm's own log-in has to do.
    """
    hosts: set[str] = set()
    if not logins.are_any():
        return []
    for found in re.finditer(_IMAGES, dockerfile, re.IGNORECASE | re.MULTILINE):
        name = next(group for group in found.groups() if group).decode(errors="replace")
        try:
            hosts.add(logins.host_of_image(name))
        except CliError:
            continue  # a stage, a number, a variable
    return [message for host in sorted(hosts) for message in logins.as_messages(host)]


def push(client: Client, refs: Sequence[str], *, quiet: bool) -> None:
    """Give the image to the registries in its names."""
    from swarmd.cli import transfer
    from swarmd.rpc.v1 import registry_pb2

    for ref in refs:
        login = logins.as_messages(logins.host_of_image(ref))
        messages = client.registry.Push(registry_pb2.PushRequest(ref=ref, logins=login))
        if quiet:
            list(messages)
        else:
            transfer.show(messages)
