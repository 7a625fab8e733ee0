"""What this node remembers of a single container, durably."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from swarmd.model.errors import Conflict, Invalid
from swarmd.model.spec import ContainerSpec, Resources

NETWORKS = ("", "host", "none")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

Policy = Literal["no", "on-failure", "always", "unless-stopped"]


class Restart(msgspec.Struct, frozen=True):
    """When a program that ended is started again.  ``most``: at most so often after failures, 0 = always."""

    policy: Policy = "no"
    most: int = 0


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A network of the swarm that a container is in.

    ``id`` empty: it was asked for by ``name``, and no manager has answered yet.  ``asked``: the addresses its
    user wants; ``addresses``: those it has, which stay its own until it leaves.
    """

    name: str
    id: str = ""
    aliases: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def is_settled(self) -> bool:
        return bool(self.id and self.addresses)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """``image`` as it was named, ``digest`` what that was then.

    ``network`` is empty (an address of the swarm's network), ``host`` or ``none``.  ``wanted``: whether it is
    to run; ``by_user``: somebody stopped it.  ``restarts`` counts starts that nobody asked for, since the
    last that somebody did.  ``address`` is the one it has on the network.  ``networks``: those of the swarm
    that it is in, in the order it joined them.
    """

    id: str
    name: str
    image: str
    digest: str = ""
    spec: ContainerSpec
    limits: Resources = Resources()
    runtime: str = ""
    network: str = ""
    restart: Restart = Restart()
    auto_remove: bool = False
    created_at: float = 0.0
    wanted: bool = False
    by_user: bool = False
    restarts: int = 0
    address: str = ""
    networks: tuple[Joined, ...] = ()


def parse_restart(text: str) -> Restart:
    """``always``, ``on-failure:3``.  Raises Invalid."""
    policy, colon, number = text.partition(":")
    if policy not in ("", "no", "on-failure", "always", "unless-stopped"):
        raise Invalid(
            f'invalid restart policy "{text}": write no, on-failure[:most times], always or unless-stopped'
        )
    if not colon:
        return Restart(policy or "no")  # type: ignore[arg-type]
    if policy != "on-failure":
        raise Invalid(f'invalid restart policy "{text}": only on-failure has a number of times')
    if not number.isdecimal():
        raise Invalid(f'invalid restart policy "{text}": "{number}" is no number of times')
    return Restart("on-failure", int(number))


def check(record: Record, others: Iterable[Record]) -> None:
    """Raises Invalid for what can never be, Conflict for a name that is taken."""
    if not _NAME.fullmatch(record.name):
        raise Invalid(f'invalid container name "{record.name}": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed')
    if record.network not in NETWORKS:
        raise Invalid(
            f'invalid network "{record.network}": a single container has the swarm\'s network, host or none'
        )
    if record.network and record.networks:
        raise Invalid(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    if record.auto_remove and record.restart.policy != "no":
        raise Invalid("Conflicting options: a restart policy and removal at the end exclude each other")
    for other in others:
        if other.name == record.name and other.id != record.id:
            raise Conflict(
                f'Conflict. The container name "{record.name}" is already in use by container "{other.id}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
