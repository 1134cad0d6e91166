"""`python -m bench`: the whole session, in a mount namespace of its own."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from bench import contenders, growth, memory, namespace, report, verbs

REPOSITORY = Path(__file__).resolve().parent.parent


def options() -> argparse.Namespace:
    """The command line; every count has a default that makes a session of a few minutes."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    # What `make install` makes: measuring the source tree would measure something else.
    installed = REPOSITORY / "build" / "installed" / "bin" / "pyrunc"
    parser.add_argument("--pyrunc", default=str(installed), help="path of the installed pyrunc")
    parser.add_argument("--only", default="verbs,memory,limit,mounts,containers", help="parts, by comma")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "40")))
    parser.add_argument("--mounts", default=os.environ.get("BENCH_MOUNTS", "10,100,1000"))
    parser.add_argument("--containers", default=os.environ.get("BENCH_CONTAINERS", "1,100,1000"))
    parser.add_argument("--results", type=Path, default=REPOSITORY / "bench" / "results")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write the results down."""
    given = options()
    if os.geteuid():
        sys.exit("make bench: must be root (namespaces, cgroups)")
    if not namespace.is_own():
        return namespace.enter([sys.executable, "-m", "bench", *sys.argv[1:]], REPOSITORY)
    namespace.hide_unified_hierarchy()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` cleans up
    parts = given.only.split(",")
    counts = {
        name: [int(word) for word in getattr(given, name).split(",")] for name in ("mounts", "containers")
    }
    result = report.Result(REPOSITORY, given.results)
    with contenders.field(given.pyrunc) as field:
        result.introduce(field)
        if "verbs" in parts:
            result.verbs(verbs.measure(field, given.rounds), given.rounds)
            result.floor(verbs.floor(field, given.rounds))
        if "memory" in parts:
            result.memory(memory.of_waiting_init(field))
        if "limit" in parts:
            result.limits(memory.lowest_limit(field))
        if "mounts" in parts:
            result.mounts(growth.with_mounts(field, counts["mounts"]))
        if "containers" in parts:
            for count, measured in growth.with_containers(field, counts["containers"]):
                result.containers(count, measured)
    result.close()
    return 0


sys.exit(main())
