"""``python -m tests.nemesis``: real daemons under real faults for some minutes, and what came of it."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.nemesis.faults import possible
from tests.nemesis.plan import schedule
from tests.nemesis.run import Settings, run


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the swarm is removed on the way out
    arguments = _arguments()
    kinds = tuple(possible())
    if arguments.faults:
        wanted = arguments.faults.split(",")
        unknown = sorted(set(wanted) - set(kinds))
        if unknown:
            print(f"not possible here: {', '.join(unknown)}; there are {', '.join(kinds)}", file=sys.stderr)
            return 2
        kinds = tuple(kind for kind in kinds if kind in wanted)
    settings = Settings(arguments.seed, arguments.minutes * 60, arguments.managers, kinds)
    print(f"seed {settings.seed}, {settings.managers} managers, {arguments.minutes} minutes of:")
    nodes = [f"node{number + 1}" for number in range(settings.managers)]
    for fault in schedule(settings.seed, nodes, settings.seconds, kinds):
        print(fault.line())
    if arguments.schedule:
        return 0
    print("as it happens:", flush=True)
    result = run(settings, lambda line: print(line, flush=True))
    print()
    print("\n".join(result.lines()))
    return 1 if result.findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults are begun")
    parser.add_argument("--managers", type=int, default=3, choices=(3, 5), help="managers of the swarm")
    parser.add_argument("--seed", type=int, default=1, help="draws the schedule and the clients' choices")
    parser.add_argument("--faults", default="", help=f"only these of {','.join(possible())}")
    parser.add_argument("--schedule", action="store_true", help="print the schedule only")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
