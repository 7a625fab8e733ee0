"""What a solver is given and what it asks for: the shapes of a build under way.  Asyncio, no disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from swarmd.image.build.cache import Outcome
from swarmd.image.build.core.graph import Operation, Origin, Stage, Step
from swarmd.image.build.core.keys import chain_id
from swarmd.image.core.config import ImageConfig
from swarmd.image.port import Layer
from swarmd.model.errors import Refused


class Made(msgspec.Struct, frozen=True):
    """A line of the image's history: when, by which instruction, whether it brought a layer."""

    created: float
    created_by: str
    empty: bool


class Chain(msgspec.Struct, frozen=True):
    """Layers, bottom first.  ``created``: when the newest was made, seconds since 1970."""

    layers: tuple[Layer, ...] = ()
    created: float = 0.0

    @property
    def id(self) -> str:
        """Its identity."""
        return chain_id([layer.diff_id for layer in self.layers])


class Staged(msgspec.Struct, frozen=True):
    """A stage that is done.  ``history`` came on top of ``base``, the digest of an image or nothing."""

    chain: Chain
    config: ImageConfig
    history: tuple[Made, ...] = ()
    base: str = ""
    author: str = ""


class Begun(msgspec.Struct, frozen=True):
    """An image to begin with or to copy from."""

    chain: Chain
    digest: str = ""


class Failed(Refused):
    """A step failed; the text is that of the reason."""

    def __init__(self, text: str, step: Step, vertex: int) -> None:
        super().__init__(text)
        self.step = step
        self.vertex = vertex


class Watch(Protocol):
    """Told how it goes.  A vertex is a number, in the order of the Dockerfile."""

    def vertex(self, name: str) -> int:
        """A new one."""
        ...

    def started(self, vertex: int) -> None: ...

    def ended(self, vertex: int, *, cached: bool = False, error: str = "") -> None: ...

    def progress(self, item: str, state: str, current: int = 0, total: int = 0) -> None:
        """How images come that are fetched."""
        ...

    def output(self, vertex: int, stream: int, data: bytes) -> None:
        """What a program wrote: 1 standard output, 2 standard error."""
        ...


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """An operation to carry out.  ``sources``: what it reads, with their layers (none for a context)."""

    operation: Operation
    parent: Chain
    sources: tuple[tuple[Origin, Chain], ...] = ()
    vertex: int = -1


class Hands(Protocol):
    """What a solver cannot do itself."""

    async def image(self, ref: str, platform: str) -> Begun:
        """An image by its name.  Raises NotFound."""
        ...

    async def content(self, task: Task) -> tuple[str, ...]:
        """Digests of what the operation reads, in order of its sources; times do not matter.

        Raises NotFound for a source that is not there.
        """
        ...

    async def carry_out(self, task: Task, watch: Watch) -> Layer | None:
        """The layer it makes, None when it changes no file."""
        ...


class Memory(Protocol):
    """The cache, as a solver uses it."""

    async def get(self, key: str) -> Outcome | None: ...
    async def put(self, key: str, outcome: Outcome, text: str) -> None: ...


class Limits(msgspec.Struct, frozen=True):
    """How many operations at once: that copy (they use a processor), that run programs."""

    copies: int = 2
    runs: int = 16


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How to build.  ``fresh``: uses no cache for a stage (by index); ``clamp``: the newest time of files."""

    fresh: Callable[[Stage], bool] = lambda stage: False
    clamp: float | None = None
    platform: str = ""
