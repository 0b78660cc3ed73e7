"""`make sim`: run many schedules, or tell the story of one.

Knows: the command line. Does not know: what a schedule is.
"""

import argparse
import sys

from tests.simulation import planted, report
from tests.simulation.world import simulate


def main() -> int:
    """Run what the command line asks for; 1 when something is wrong."""
    parser = argparse.ArgumentParser(
        prog="make sim", description="Random schedules of crashes, faults and reorderings."
    )
    parser.add_argument("--seeds", type=int, default=2000, help="how many schedules (2000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="one schedule alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell its story")
    parser.add_argument("--processes", type=int, help="how many at a time; else one for each core")
    parser.add_argument("--planted", action="store_true", help="plant known bugs and see that each is found")
    options = parser.parse_args()
    if options.planted:
        return planted.main([])
    if options.seed is not None:
        outcome = simulate(options.seed, print if options.trace else None)
        print(
            f"seed {outcome.seed}: {outcome.turns} port calls, {outcome.hours:.1f} virtual hours, trail {outcome.trail}"
        )
        print(outcome.violation or "0 violations")
        return int(outcome.violation is not None)
    seeds = range(options.first, options.first + options.seeds)
    result = report.run(seeds, processes=options.processes, progress=_progress if sys.stderr.isatty() else None)
    print("\n".join(result.lines()))
    return int(bool(result.violations))


def _progress(result: report.Report) -> None:
    rate = result.seeds / result.seconds
    print(
        f"\r{result.seeds} seeds, {rate:.0f}/s, {len(result.violations)} violations",
        end="",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        # Whoever read the story has read enough.
        sys.stdout = None
        sys.exit(1)
