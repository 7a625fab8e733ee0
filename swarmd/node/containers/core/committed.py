"""Decide what an image says that is made of a container: what the container is run with.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from swarmd.image.core.config import History, ImageConfig
from swarmd.model.spec import ContainerSpec

_OF_THE_SWARM = "com.docker.swarm."
_MADE_UP = ("HOSTNAME", "TERM")
"""Variables that every container has of its own."""


def committed(
    image: ImageConfig, spec: ContainerSpec, *, env: Sequence[str], labels: Mapping[str, str]
) -> ImageConfig:
    """The configuration of the new image, before ``--change``.

    ``image`` is what the container was made of; ``env`` and ``labels`` are the container's.  Labels of the
    swarm, and triggers of the image below (ONBUILD), are left out: they are about what was.
    """
    return msgspec.structs.replace(
        image,
        env=_env(image.env, env),
        entrypoint=() if spec.command == ("",) else spec.command or image.entrypoint,
        cmd=spec.args or (() if spec.command else image.cmd),
        user=spec.user or image.user,
        workdir=spec.workdir or image.workdir,
        stop_signal=spec.stop_signal or image.stop_signal,
        labels={key: value for key, value in labels.items() if not key.startswith(_OF_THE_SWARM)},
        onbuild=(),
    )


def command_line(image: ImageConfig, spec: ContainerSpec) -> str:
    """What the history says the layer was made by: the container's arguments, as Docker has it."""
    return " ".join(spec.args or (() if spec.command else image.cmd))


def told(history: Sequence[History], layers: int, created: float) -> tuple[History, ...]:
    """A history that tells of so many layers; steps without words for those that it left out."""
    claimed = sum(not each.empty_layer for each in history)
    if claimed > layers:  # nobody can say which of them is wrong
        history, claimed = (), 0
    return (*history, *(History(created) for _ in range(layers - claimed)))


def _env(image: Sequence[str], container: Sequence[str]) -> tuple[str, ...]:
    own = {entry.partition("=")[0] for entry in image}
    return tuple(
        entry for entry in container if (name := entry.partition("=")[0]) in own or name not in _MADE_UP
    )
