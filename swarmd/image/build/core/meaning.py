"""The instructions of a Dockerfile as values, with nothing expanded yet.  Pure data."""

from __future__ import annotations

from swarmd.image.build.core.graph import Node
from swarmd.image.build.core.heredoc import Heredoc
from swarmd.image.build.core.mounts import MountSpec
from swarmd.image.core.config import Healthcheck


class From(Node, frozen=True, kw_only=True):
    """``name`` is in lower case; ``name_written`` and ``as_written`` are for the rules about style."""

    image: str
    name: str = ""
    platform: str = ""
    name_written: str = ""
    as_written: str = ""


class Arg(Node, frozen=True, kw_only=True):
    """Names with their defaults; None where there is none."""

    pairs: tuple[tuple[str, str | None], ...]


class Pairs(Node, frozen=True, kw_only=True):
    """ENV and LABEL.  ``legacy``: written without ``=``."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


class Command(Node, frozen=True, kw_only=True):
    """CMD, ENTRYPOINT, and what RUN runs.  ``shell``: ``args`` is one text for the shell."""

    args: tuple[str, ...]
    shell: bool


class Run(Node, frozen=True, kw_only=True):
    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[MountSpec, ...] = ()
    network: str = "default"
    security: str = "sandbox"


class Copy(Node, frozen=True, kw_only=True):
    """COPY and ADD (``add``).  ``source`` is what ``--from`` says."""

    sources: tuple[str, ...]
    destination: str
    inline: tuple[Heredoc, ...] = ()
    add: bool = False
    source: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    unpack: bool | None = None
    keep_git_dir: bool = False


class Health(Node, frozen=True, kw_only=True):
    check: Healthcheck


class Words(Node, frozen=True, kw_only=True):
    """EXPOSE, VOLUME, SHELL (several) and USER, WORKDIR, STOPSIGNAL, MAINTAINER (one)."""

    words: tuple[str, ...]


class Trigger(Node, frozen=True, kw_only=True):
    """ONBUILD: what a build on top of this image does first, as it is written."""

    expression: str


Meaning = From | Arg | Pairs | Command | Run | Copy | Health | Words | Trigger
