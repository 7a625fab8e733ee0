"""``python -m tests.simulation.raft``: sweep seeds, or tell the story of one."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from tests.simulation.raft.mutants import MUTANTS
from tests.simulation.raft.profiles import PROFILES
from tests.simulation.raft.run import Result
from tests.simulation.raft.sweep import sweep

_STORY_LINES = 120


def main() -> int:
    arguments = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is part of what a seed must replay.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation.raft", *sys.argv[1:]], environment)
    profiles = list(PROFILES) if arguments.profile == "all" else arguments.profile.split(",")
    bad = 0
    for profile in profiles:
        bad += _sweep(profile, arguments)
    return 1 if bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.raft", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--members", type=int, default=3, choices=range(1, 8), help="managers at the start")
    parser.add_argument("--profile", default="mixed", help=f"all, or some of {','.join(PROFILES)}")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break the product on purpose")
    parser.add_argument("--story", action="store_true", help="tell it also when nothing went wrong")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    parser.add_argument("--stop", action="store_true", help="stop at the first violation")
    return parser.parse_args()


def _sweep(profile: str, arguments: argparse.Namespace) -> int:
    """Run the seeds of one profile and print what came out; answers how many went wrong."""
    counts: Counter[str] = Counter()
    bad, acknowledged, reads, epochs, slowest = 0, 0, 0, 0, (0.0, 0)
    began = time.monotonic()
    ran = 0
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    for result in sweep(seeds, profile, arguments.members, mutant=arguments.mutant, jobs=arguments.jobs):
        ran += 1
        counts.update(result.counts)
        acknowledged += result.acknowledged
        reads += result.reads
        epochs += result.epochs
        slowest = max(slowest, (result.healed_after, result.seed))
        if result.violation is not None or arguments.story:
            _tell(result, profile, arguments.members, arguments.mutant)
        if result.violation is not None:
            bad += 1
            if arguments.stop:
                break
    crashes = counts["power lost"] + counts["killed"]
    print(
        f"{profile}, {arguments.members} members: {ran} seeds, {bad} violations, "
        f"{acknowledged} acknowledged, {reads} reads, {epochs} epochs, "
        f"{crashes} crashes ({counts['crash inside']} inside a disk operation), "
        f"slowest healing {slowest[0]:.1f} s (seed {slowest[1]}), {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return bad


def _tell(result: Result, profile: str, members: int, mutant: str | None) -> None:
    for line in result.story[-_STORY_LINES:]:
        print(line)
    again = f"--seeds 1 --first {result.seed} --members {members} --profile {profile}"
    print(f"seed {result.seed} ({profile}, {members} members): {result.violation or 'clean'}")
    print(f"trace {result.trace}; again: python -m tests.simulation.raft {again}", end="")
    print(f" --mutant {mutant}" if mutant else "", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
