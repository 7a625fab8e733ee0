"""Carries out a plan: stages side by side, what is known from the cache, everything else once.

::

    plan ──► a task for each stage ──► step by step: key ──► cache? ──► (the hands make it) ──► layers
                    ▲ waits for the stages it copies from, when it comes to that

Asyncio; knows nothing of containers or disks: those are the :class:`Hands`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from swarmd.image.build.cache import Outcome
from swarmd.image.build.core.graph import BuildMount, Copy, Operation, Origin, Plan, Run, Stage, Step
from swarmd.image.build.core.keys import Inputs, key
from swarmd.image.build.work import (
    Begun,
    Chain,
    Failed,
    Hands,
    Limits,
    Made,
    Memory,
    Staged,
    Task,
    Watch,
    Wish,
)
from swarmd.image.flights import Flights
from swarmd.kit.clock import Clock
from swarmd.kit.groups import TaskGroup
from swarmd.model.errors import SwarmError


class Solver:
    """One for all builds of a node: they share what they have in common.  Make a :class:`Build` for each."""

    def __init__(self, memory: Memory, clock: Clock, limits: Limits) -> None:
        self.memory = memory
        self.clock = clock
        self.flights = Flights()
        self.copies = asyncio.Semaphore(limits.copies)
        self.runs = asyncio.Semaphore(limits.runs)

    async def solve(self, plan: Plan, hands: Hands, watch: Watch, wish: Wish) -> Staged:
        """The target of the plan.  Raises Failed; then nothing of the build goes on."""
        return await _Build(self, plan, hands, watch, wish).run()


class _Build:
    def __init__(self, solver: Solver, plan: Plan, hands: Hands, watch: Watch, wish: Wish) -> None:
        self._solver = solver
        self._plan = plan
        self._hands = hands
        self._watch = watch
        self._wish = wish
        self._stages: dict[int, asyncio.Task[Staged]] = {}
        self._images: dict[tuple[str, str], asyncio.Lock] = {}
        self._found: dict[tuple[str, str], Begun] = {}

    async def run(self) -> Staged:
        try:
            async with TaskGroup() as group:
                numbered = [(stage, self._vertices(stage)) for stage in self._plan.stages]
                for stage, vertices in numbered:
                    self._stages[stage.index] = group.create_task(self._stage(stage, vertices))
        except BaseExceptionGroup as failures:
            raise _first(failures) from failures
        return self._stages[self._plan.target].result()

    def _vertices(self, stage: Stage) -> list[int]:
        """One for an image it begins with, one for each step that does something."""
        doing = [step for step in stage.steps if step.operation is not None]
        begin = [stage.text] if stage.base.where == "image" else []
        labels = [*begin, *(step.text for step in doing)]
        several = len(self._plan.stages) > 1
        name = (stage.name or f"stage-{stage.index}") + " " if several or stage.name else ""
        return [
            self._watch.vertex(f"[{name}{number}/{len(labels)}] {label}")
            for number, label in enumerate(labels, 1)
        ]

    async def _stage(self, stage: Stage, vertices: list[int]) -> Staged:
        waiting = list(vertices)
        done = await self._begin(stage, waiting)
        chain, history = done.chain, list(done.history)
        for step in stage.steps:
            if step.operation is None:
                history.append(Made(chain.created, step.created_by, empty=True))
                continue
            vertex = waiting.pop(0)
            try:
                outcome = await self._step(stage, step, chain, vertex)
            except SwarmError as error:
                if isinstance(error, Failed):
                    raise
                self._watch.ended(vertex, error=str(error))
                raise Failed(str(error), step, vertex) from error
            layers = (*chain.layers, outcome.layer) if outcome.layer is not None else chain.layers
            chain = Chain(layers, outcome.created)
            history.append(Made(outcome.created, step.created_by, empty=outcome.layer is None))
        config = stage.steps[-1].config if stage.steps else stage.config
        return Staged(chain, config, tuple(history), done.base, stage.author or done.author)

    async def _begin(self, stage: Stage, waiting: list[int]) -> Staged:
        base = stage.base
        if base.where == "stage":
            return await self._stages[base.stage]
        if base.where == "scratch":
            return Staged(Chain(), stage.config)
        vertex = waiting.pop(0)
        self._watch.started(vertex)
        try:
            found = await self._image(base.ref, base.platform)
        except SwarmError as error:
            self._watch.ended(vertex, error=str(error))
            raise
        self._watch.ended(vertex, cached=True)
        return Staged(found.chain, stage.config, base=found.digest)

    async def _image(self, ref: str, platform: str) -> Begun:
        name = (ref, platform)
        async with self._images.setdefault(name, asyncio.Lock()):
            if name not in self._found:
                self._found[name] = await self._hands.image(ref, platform)
            return self._found[name]

    async def _step(self, stage: Stage, step: Step, parent: Chain, vertex: int) -> Outcome:
        if step.operation is None:
            raise TypeError(step)
        sources = [(origin, await self._source(origin)) for origin in origins(step.operation)]
        task = Task(operation=step.operation, parent=parent, sources=tuple(sources), vertex=vertex)
        fresh = self._wish.fresh(stage)
        quick = self._quick_key(task)
        outcome = None if fresh or not quick else await self._solver.memory.get(quick)
        if outcome is None:
            outcome = await self._made(task, step, quick, fresh=fresh)
        else:
            self._watch.ended(vertex, cached=True)
        return outcome

    async def _made(self, task: Task, step: Step, quick: str, *, fresh: bool) -> Outcome:
        """By the content of what it reads: known after all, or carried out, by one build for all."""
        memory, watch = self._solver.memory, self._watch
        content = await self._hands.content(task)
        exact = key(task.operation, self._inputs(task, content))
        async with self._solver.flights.alone(exact):
            outcome = None if fresh else await memory.get(exact)
            known = outcome is not None
            if outcome is None:
                async with self._turn(task.operation):
                    watch.started(task.vertex)
                    layer = await self._hands.carry_out(task, watch)
                outcome = Outcome(layer, self._time())
                await memory.put(exact, outcome, step.text)
        if quick and quick != exact:
            await memory.put(quick, outcome, step.text)
        watch.ended(task.vertex, cached=known)
        return outcome

    def _turn(self, operation: Operation) -> asyncio.Semaphore:
        return self._solver.runs if isinstance(operation, Run) else self._solver.copies

    def _time(self) -> float:
        now = self._solver.clock.now()
        return now if self._wish.clamp is None else min(now, self._wish.clamp)

    def _quick_key(self, task: Task) -> str:
        """Without reading anything; empty where only the content tells."""
        if any(origin.where not in ("stage", "image") for origin, _ in task.sources):
            return ""
        return key(task.operation, self._inputs(task, tuple(_way(task))))

    def _inputs(self, task: Task, sources: Sequence[str]) -> Inputs:
        independent = isinstance(task.operation, Copy) and task.operation.link and not task.operation.chown
        return Inputs(
            parent="" if independent else task.parent.id,
            sources=tuple(sources),
            clamp="" if self._wish.clamp is None else str(self._wish.clamp),
            platform=self._wish.platform,
        )

    async def _source(self, origin: Origin) -> Chain:
        if origin.where == "stage":
            return (await self._stages[origin.stage]).chain
        if origin.where == "image":
            return (await self._image(origin.ref, "")).chain
        return Chain()


def origins(operation: Operation) -> tuple[Origin, ...]:
    """Where an operation reads from, in its order; heredocs come with it."""
    if isinstance(operation, Copy):
        elsewhere = operation.origin.where in ("url", "git")  # there the origin says all
        return (operation.origin,) if operation.sources or elsewhere else ()
    if isinstance(operation, Run):
        return tuple(mount.origin for mount in operation.mounts if reads_origin(mount))
    return ()


def reads_origin(mount: BuildMount) -> bool:
    """Whether a mount shows files of its origin."""
    named = mount.origin.where != "context" or mount.source not in ("", "/")
    return mount.kind == "bind" or (mount.kind == "cache" and named)


def _way(task: Task) -> list[str]:
    """What tells an operation's sources apart without reading them."""
    if isinstance(task.operation, Copy):
        copy = task.operation
        inline = [(file.name, file.data.hex()) for file in copy.inline]
        return [repr((chain.id, copy.sources, copy.exclude, inline)) for _, chain in task.sources] or [
            repr(inline)
        ]
    return [chain.id for _, chain in task.sources]


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of stages that failed together, the one that did not only wait for another."""
    found = [
        _first(failure) if isinstance(failure, BaseExceptionGroup) else failure
        for failure in failures.exceptions
    ]
    return next((one for one in found if isinstance(one, SwarmError)), found[0])
