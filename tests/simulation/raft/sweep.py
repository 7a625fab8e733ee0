"""Many seeds one after another, or shared among processes; the results come in the order of the seeds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

from tests.simulation.raft.mutants import MUTANTS
from tests.simulation.raft.run import Result, run


def sweep(
    seeds: Iterable[int], profile: str, members: int, *, mutant: str | None, jobs: int
) -> Iterator[Result]:
    """What comes of each seed, the product broken by ``mutant`` if one is named."""
    asked = [(seed, profile, members, mutant) for seed in seeds]
    if jobs <= 1:
        yield from map(_run_one, asked)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(_run_one, asked)
    finally:
        pool.shutdown(cancel_futures=True)


def _run_one(asked: tuple[int, str, int, str | None]) -> Result:
    seed, profile, members, mutant = asked
    with MUTANTS[mutant].active() if mutant else nullcontext():
        return run(seed, profile, members)
