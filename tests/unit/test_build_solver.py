"""How a plan is carried out: side by side, once, from the cache, and what remembers it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from hashlib import sha256

import pytest

from swarmd.image.build.cache import Cache, Outcome
from swarmd.image.build.core.graph import Base, Copy, Operation, Origin, Plan, Run, Stage, Step
from swarmd.image.build.core.keys import Inputs, chain_id, key
from swarmd.image.build.solver import Solver
from swarmd.image.build.work import Begun, Chain, Failed, Limits, Staged, Task, Watch, Wish
from swarmd.image.core.config import ImageConfig
from swarmd.image.port import Layer
from swarmd.model.errors import NotFound, Refused


class Ticking:
    """Every look is a second later."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        self.seconds += 1
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Remembered:
    """A cache in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, Outcome] = {}

    async def get(self, key: str) -> Outcome | None:
        return self.rows.get(key)

    async def put(self, key: str, outcome: Outcome, text: str) -> None:
        self.rows[key] = outcome


class Silent:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.cached: dict[str, bool] = {}
        self.errors: dict[str, str] = {}

    def vertex(self, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1

    def started(self, vertex: int) -> None:
        return

    def ended(self, vertex: int, *, cached: bool = False, error: str = "") -> None:
        self.cached[self.names[vertex]] = cached
        self.errors[self.names[vertex]] = error

    def progress(self, item: str, state: str, current: int = 0, total: int = 0) -> None:
        return

    def output(self, vertex: int, stream: int, data: bytes) -> None:
        return


def layer_of(text: str) -> Layer:
    return Layer(f"sha256:{sha256(text.encode()).hexdigest()}", f"sha256:{text}", len(text))


class Told:
    """Hands that make layers named after their operation; ``context`` is what the context holds."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.context = "files"
        self.fails = ""
        self.meet: Callable[[str], object] = lambda name: None
        self.same_output = False

    async def image(self, ref: str, platform: str) -> Begun:
        if ref == "missing":
            raise NotFound("No such image: missing")
        return Begun(Chain((layer_of(ref),)), f"sha256:{ref}")

    async def content(self, task: Task) -> tuple[str, ...]:
        if not isinstance(task.operation, Copy):
            return tuple(chain.id for _, chain in task.sources)
        return tuple(
            self.context if origin.where == "context" else "content of the stage"
            for origin, _ in task.sources
        )

    async def carry_out(self, task: Task, watch: Watch) -> Layer | None:
        name = name_of(task.operation)
        self.made.append(name)
        met = self.meet(name)
        if asyncio.iscoroutine(met):
            await met
        if name == self.fails:
            raise Refused(f"{name} failed")
        if name == "nothing":
            return None
        return layer_of(name if self.same_output else f"{name} {len(self.made)}")


def name_of(operation: Operation) -> str:
    return operation.args[0] if isinstance(operation, Run) else "copy"


def run(name: str) -> Step:
    return step(Run(args=(name,)), f"RUN {name}")


def step(operation: Operation | None, text: str) -> Step:
    return Step(line=1, last_line=1, text=text, created_by=text, config=ImageConfig(), operation=operation)


COPY = step(Copy(sources=("a",), destination="/a"), "COPY a /a")


def copy_from(stage: int) -> Step:
    return step(Copy(origin=Origin(where="stage", stage=stage), sources=("a",)), "COPY --from")


def stage(index: int, *steps: Step, base: Base | None = None, name: str = "") -> Stage:
    begin = base or Base(where="image", ref="base")
    return Stage(
        index=index, name=name, line=1, text="FROM base", base=begin, config=ImageConfig(), steps=steps
    )


class Node:
    """What builds of one node share."""

    def __init__(self) -> None:
        self.memory = Remembered()
        self.solver = Solver(self.memory, Ticking(), Limits())
        self.hands = Told()

    async def build(self, *stages: Stage, watch: Silent | None = None, wish: Wish | None = None) -> Staged:
        plan = Plan(stages=stages, target=stages[-1].index)
        return await self.solver.solve(plan, self.hands, watch or Silent(), wish or Wish())


@pytest.fixture
def node() -> Node:
    return Node()


async def test_steps_follow_each_other_and_are_remembered(node: Node) -> None:
    first = await node.build(stage(0, run("a"), run("b")))
    watch = Silent()
    again = await node.build(stage(0, run("a"), run("b")), watch=watch)
    assert node.hands.made == ["a", "b"]
    assert again == first
    assert [watch.cached[name] for name in watch.names[1:]] == [True, True]
    assert watch.names == ["[1/3] FROM base", "[2/3] RUN a", "[3/3] RUN b"]


async def test_what_comes_after_a_change_is_made_again_and_what_is_before_is_not(node: Node) -> None:
    await node.build(stage(0, run("a"), COPY, run("b")))
    node.hands.context = "other files"
    await node.build(stage(0, run("a"), COPY, run("b")))
    assert node.hands.made == ["a", "copy", "b", "copy", "b"]


async def test_instructions_that_touch_no_files_change_no_key(node: Node) -> None:
    await node.build(stage(0, run("a")))
    staged = await node.build(stage(0, step(None, "LABEL x=y"), run("a")))
    assert node.hands.made == ["a"]
    assert [(one.created_by, one.empty) for one in staged.history] == [("LABEL x=y", True), ("RUN a", False)]


async def test_equal_output_joins_again(node: Node) -> None:
    """A step that is made anew but comes to the same: those after it are known."""
    node.hands.same_output = True
    await node.build(stage(0, run("a"), run("b")))
    only_first = Wish(fresh=lambda one: one.name == "first")
    await node.build(
        stage(0, run("a"), name="first"),
        stage(1, run("b"), base=Base(where="stage", stage=0)),
        wish=only_first,
    )
    assert node.hands.made == ["a", "b", "a"]


async def test_a_step_that_changed_nothing_is_no_layer(node: Node) -> None:
    staged = await node.build(stage(0, run("nothing")))
    assert [layer.diff_id for layer in staged.chain.layers] == ["sha256:base"]
    assert staged.history[0].empty


async def test_stages_run_side_by_side(node: Node) -> None:
    """Each waits for all others to have begun: one after the other they would wait for ever."""
    together = asyncio.Barrier(3)
    stages = [stage(index, run(f"r{index}")) for index in range(3)]
    last = stage(3, copy_from(0), copy_from(1), copy_from(2))
    node.hands.meet = lambda name: together.wait() if name != "copy" else None
    async with asyncio.timeout(60):
        await node.build(*stages, last)
    assert Counter(node.hands.made) == Counter(r0=1, r1=1, r2=1, copy=3)


async def test_two_builds_share_what_they_have_in_common(node: Node) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await go.wait()

    node.hands.meet = lambda name: wait()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(node.build(stage(0, run("a"))))
        await begun.wait()
        second = group.create_task(node.build(stage(0, run("a"))))
        go.set()
    assert node.hands.made == ["a"]
    assert first.result() == second.result()


async def test_a_copy_from_a_stage_that_was_made_anew_is_known_by_content(node: Node) -> None:
    stages = (stage(0, run("a"), name="builder"), stage(1, copy_from(0)))
    await node.build(*stages)
    await node.build(*stages, wish=Wish(fresh=lambda one: one.name == "builder"))
    assert node.hands.made == ["a", "copy", "a"]


async def test_without_cache_everything_is_made(node: Node) -> None:
    await node.build(stage(0, run("a"), COPY))
    await node.build(stage(0, run("a"), COPY), wish=Wish(fresh=lambda one: True))
    assert node.hands.made == ["a", "copy", "a", "copy"]


async def test_a_failure_names_its_step_and_ends_the_others(node: Node) -> None:
    ended = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    node.hands.fails = "bad"
    node.hands.meet = lambda name: forever() if name == "long" else None
    watch = Silent()
    with pytest.raises(Failed, match="bad failed") as caught:
        await node.build(stage(0, run("long")), stage(1, run("bad"), copy_from(0)), watch=watch)
    assert caught.value.step.text == "RUN bad"
    assert watch.errors[watch.names[caught.value.vertex]] == "bad failed"
    assert ended.is_set()


async def test_a_failed_step_is_not_remembered(node: Node) -> None:
    node.hands.fails = "a"
    with pytest.raises(Failed):
        await node.build(stage(0, run("a")))
    node.hands.fails = ""
    await node.build(stage(0, run("a")))
    assert node.hands.made == ["a", "a"]


async def test_a_missing_image_is_told_as_it_is(node: Node) -> None:
    with pytest.raises(NotFound, match="No such image: missing"):
        await node.build(stage(0, run("a"), base=Base(where="image", ref="missing")))


def test_keys_depend_on_what_an_operation_reads_and_says() -> None:
    inputs = Inputs(parent="p", sources=("s",))
    keys = {
        key(Run(args=("a",)), inputs),
        key(Run(args=("b",)), inputs),
        key(Run(args=("a",), env=("X=1",)), inputs),
        key(Run(args=("a",), network="none"), inputs),
        key(Run(args=("a",)), Inputs(parent="other", sources=("s",))),
        key(Run(args=("a",)), Inputs(parent="p", sources=("t",))),
        key(Run(args=("a",)), Inputs(parent="p", sources=("s",), clamp="0.0")),
        key(Copy(destination="/a"), inputs),
        key(Copy(destination="/a", chown="1:1"), inputs),
    }
    assert len(keys) == 9


def test_a_chain_has_the_identity_that_images_give_it() -> None:
    assert chain_id([]) == ""
    assert chain_id(["sha256:a"]) == "sha256:a"
    assert chain_id(["sha256:a", "sha256:b"]) == f"sha256:{sha256(b'sha256:a sha256:b').hexdigest()}"


class TestCache:
    @pytest.fixture
    def here(self) -> set[str]:
        return set()

    @pytest.fixture
    def cache(self, here: set[str]) -> Cache:
        database = sqlite3.connect(":memory:", check_same_thread=False)
        return Cache(database, threading.Lock(), here.__contains__)

    def put(self, cache: Cache, here: set[str], name: str, at: float, size: int = 10) -> Layer:
        layer = Layer(f"sha256:{name}", f"sha256:d{name}", size, "type")
        here.add(layer.digest)
        cache.put(f"key {name}", Outcome(layer, at), f"RUN {name}", at)
        return layer

    def test_it_answers_what_was_put(self, cache: Cache, here: set[str]) -> None:
        layer = self.put(cache, here, "a", 5.0)
        cache.put("empty", Outcome(None, 7.0), "RUN true", 7.0)
        assert cache.get("key a", 6.0) == Outcome(layer, 5.0)
        assert cache.get("empty", 8.0) == Outcome(None, 7.0)
        assert cache.get("other", 8.0) is None

    def test_a_row_whose_layer_is_gone_is_forgotten(self, cache: Cache, here: set[str]) -> None:
        layer = self.put(cache, here, "a", 5.0)
        here.discard(layer.digest)
        assert cache.get("key a", 6.0) is None
        assert cache.rows() == []
        assert cache.roots() == ()

    def test_layers_are_kept_alive_until_the_last_row_goes(self, cache: Cache, here: set[str]) -> None:
        layer = self.put(cache, here, "a", 5.0)
        cache.put("second key", Outcome(layer, 5.0), "RUN a", 50.0)
        assert cache.roots() == (layer.digest,)
        assert cache.prune(before=10.0).freed == 0
        assert cache.roots() == (layer.digest,)
        assert cache.prune(everything=True).freed == 10
        assert cache.roots() == ()

    def test_what_was_not_used_for_long_goes_first(self, cache: Cache, here: set[str]) -> None:
        for name, at in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
            self.put(cache, here, name, at)
        cache.get("key a", 100.0)
        pruned = cache.prune(keep=20)
        assert pruned.keys == ("key b",)
        assert pruned.freed == 10
        assert [row.key for row in cache.rows()] == ["key a", "key c"]

    def test_another_daemon_finds_what_this_one_kept_and_when_it_was_used(self, here: set[str]) -> None:
        database, lock = sqlite3.connect(":memory:", check_same_thread=False), threading.Lock()
        before = Cache(database, lock, here.__contains__)
        layer = self.put(before, here, "a", 1.0)
        self.put(before, here, "b", 2.0)
        before.get("key a", 100.0)
        before.settle()
        after = Cache(database, lock, here.__contains__)
        assert after.get("key a", 101.0) == Outcome(layer, 1.0)
        assert [(row.key, row.used) for row in after.rows()] == [("key a", 101.0), ("key b", 2.0)]
        assert sorted(after.roots()) == ["sha256:a", "sha256:b"]

    def test_a_row_that_is_put_again_counts_once(self, cache: Cache, here: set[str]) -> None:
        self.put(cache, here, "a", 1.0)
        layer = Layer("sha256:other", "sha256:d", 10, "type")
        here.add(layer.digest)
        cache.put("key a", Outcome(layer, 2.0), "RUN a", 2.0)
        assert cache.roots() == (layer.digest,)
        assert cache.get("key a", 3.0) == Outcome(layer, 2.0)

    def test_it_has_grown_until_it_is_pruned(self, cache: Cache, here: set[str]) -> None:
        assert cache.has_grown, "by whatever a daemon before left"
        cache.prune(keep=100)
        assert not cache.has_grown
        self.put(cache, here, "a", 1.0)
        assert cache.has_grown
