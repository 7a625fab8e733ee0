"""What a build consists of, as the planner decides it and the builder carries it out.  Pure data.

    Dockerfile ──► stages with every word expanded ──► steps: an operation, a new configuration, or both

All paths inside images are absolute and cleaned; a trailing ``/`` of a destination means a directory.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from swarmd.image.core.config import ImageConfig

Where = Literal["context", "stage", "image", "url", "git"]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything here: immutable, compared by value."""


class Origin(Node, frozen=True, kw_only=True):
    """Where files come from: the build context, a stage (``stage``: its index), an image, a URL, git.

    ``ref`` is the image's reference, the URL, or the git URL with its ``#ref:directory``.
    """

    where: Where = "context"
    stage: int = -1
    ref: str = ""


class Inline(Node, frozen=True, kw_only=True):
    """A file whose content stands in the Dockerfile (a heredoc)."""

    name: str
    data: bytes


class BuildMount(Node, frozen=True, kw_only=True):
    """``RUN --mount``.  ``kind`` is bind, cache, tmpfs, secret or ssh.

    ``source`` is a path in ``origin`` (bind, cache), ``id`` names a cache, secret or agent.  ``sharing`` of a
    cache is shared, private or locked; one whose origin is the context begins empty.  ``env``: the variable a
    secret is given in (then ``target`` is empty unless both were asked for).  ``size``: bytes, 0 = any.
    -1 for ``uid``, ``gid`` and ``mode`` is what the kind has by default.
    """

    kind: str = "bind"
    target: str = ""
    source: str = "/"
    origin: Origin = Origin()
    id: str = ""
    sharing: str = "shared"
    readonly: bool = False
    required: bool = False
    env: str = ""
    size: int = 0
    uid: int = -1
    gid: int = -1
    mode: int = -1


class Run(Node, frozen=True, kw_only=True):
    """A command in a container of the stage so far.

    ``args`` is complete: the shell is in it.  ``env`` holds what the program sees, build arguments among it;
    ``files`` are scripts of heredocs, found below ``/dev/pipes/`` by their names.  ``network`` is default,
    none or host; ``security`` is sandbox or insecure.  ``proxy`` is given to the program too, but says
    nothing about what the command does: it enters no key.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    proxy: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""
    mounts: tuple[BuildMount, ...] = ()
    files: tuple[Inline, ...] = ()
    network: str = "default"
    security: str = "sandbox"


class Copy(Node, frozen=True, kw_only=True):
    """COPY and ADD.  ``sources`` are patterns in the origin; ``inline`` files come with the Dockerfile.

    An ADD of files and URLs together is several steps, one for each origin.

    ``chown`` and ``chmod`` are as written, expanded.  ``add``: archives among local sources are unpacked
    (``unpack`` says so of URLs, or that nothing is), ``checksum`` is what a URL's content must have.
    """

    origin: Origin = Origin()
    sources: tuple[str, ...] = ()
    inline: tuple[Inline, ...] = ()
    destination: str = "/"
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    add: bool = False
    unpack: bool | None = None
    checksum: str = ""
    keep_git_dir: bool = False


class MakeDirectory(Node, frozen=True, kw_only=True):
    """WORKDIR: the directory is there afterwards.  ``user`` owns it if it has to be made."""

    path: str
    user: str = ""


Operation = Run | Copy | MakeDirectory


class Step(Node, frozen=True, kw_only=True):
    """One instruction, in rows ``line`` to ``last_line`` of the Dockerfile (from 1; 0: from ONBUILD).

    ``text`` is the instruction as written, on one line; ``created_by`` what the image's history says.
    ``config`` is the image's configuration after it.  Without ``operation`` files stay as they are.
    """

    line: int
    last_line: int
    text: str
    created_by: str
    config: ImageConfig
    operation: Operation | None = None


class Base(Node, frozen=True, kw_only=True):
    """What a stage begins with: nothing (scratch), another stage, or an image."""

    where: Literal["scratch", "stage", "image"] = "scratch"
    stage: int = -1
    ref: str = ""
    platform: str = ""


class Stage(Node, frozen=True, kw_only=True):
    """``index`` counts all FROM lines; ``config`` is what ``base`` brings, ``author`` is MAINTAINER's."""

    index: int
    name: str
    line: int
    text: str
    base: Base
    config: ImageConfig
    steps: tuple[Step, ...] = ()
    author: str = ""


class Warned(Node, frozen=True, kw_only=True):
    """What a rule has to say about the Dockerfile; the build goes on.  ``rule`` as ``StageNameCasing``."""

    rule: str
    line: int
    message: str


class Plan(Node, frozen=True, kw_only=True):
    """The stages that ``target`` (an index) needs, in the order of the Dockerfile."""

    stages: tuple[Stage, ...]
    target: int
    warnings: tuple[Warned, ...] = ()
