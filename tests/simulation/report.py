"""Reports: many seeds, counted, and as a table for a person.

Knows: how seeds are spread over processes and what is worth knowing of them together. Does not know: what a seed does.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.faults import DEATH
from tests.simulation.world import Outcome, simulate

# Seeds that a process takes at a time.
PORTION = 50


@dataclass(slots=True)
class Report:
    """Many outcomes together.

    Attributes:
        violations: seed and sentence of each seed that found something wrong.
        busy: seconds of all processes together.
    """

    seeds: int = 0
    turns: int = 0
    hours: float = 0.0
    busy: float = 0.0
    seconds: float = 0.0
    processes: int = 1
    struck: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count a seed."""
        self.seeds += 1
        self.turns += outcome.turns
        self.hours += outcome.hours
        self.struck += outcome.struck
        if outcome.violation is not None:
            self.violations.append((outcome.seed, outcome.violation))

    def join(self, other: "Report") -> None:
        """Count what another process did."""
        self.seeds += other.seeds
        self.turns += other.turns
        self.hours += other.hours
        self.busy += other.busy
        self.struck += other.struck
        self.violations += other.violations

    def lines(self) -> list[str]:
        """The report for a person."""
        rate = self.seeds / self.seconds if self.seconds else 0.0
        core = self.seeds / self.busy if self.busy else 0.0
        died = sum(self.struck[kind] for kind in DEATH if kind.startswith(("killed", "instance")))
        found = [f"  seed {seed}: {sentence}" for seed, sentence in sorted(self.violations)[:20]]
        each, pace = self.turns / max(1, self.seeds), self.turns / max(0.001, self.busy)
        return [
            f"{self.seeds} seeds in {self.seconds:.0f} s on {self.processes} processes",
            f"{rate:.0f} seeds a second, {core:.0f} a second and core",
            f"{self.turns} port calls, {each:.0f} a seed, {pace:.0f} a second and core",
            f"{self.hours:.0f} virtual hours, {died} kills",
            "faults that struck:",
            *(f"  {kind:<34}{number:>9}" for kind, number in sorted(self.struck.items())),
            f"{len(self.violations)} violations",
            *found,
            *([f"The story of one: make sim SEED={min(self.violations)[0]} TRACE=1"] if self.violations else []),
        ]


def run(
    seeds: Sequence[int], *, processes: int | None = None, progress: Callable[[Report], None] | None = None
) -> Report:
    """Run seeds, on all cores.

    Args:
        seeds: which.
        processes: how many; None: one for each core.
        progress: is told how far things are, now and then.
    """
    processes = processes or os.cpu_count() or 1
    portions = [seeds[start : start + PORTION] for start in range(0, len(seeds), PORTION)]
    report = Report(processes=processes)
    began = time.perf_counter()
    with ProcessPoolExecutor(processes) as pool:
        for part in pool.map(portion, portions):
            report.join(part)
            report.seconds = time.perf_counter() - began
            if progress is not None:
                progress(report)
    return report


def portion(seeds: Sequence[int]) -> Report:
    """Run seeds in this process."""
    report = Report()
    began = time.perf_counter()
    for seed in seeds:
        report.add(simulate(seed))
    report.busy = report.seconds = time.perf_counter() - began
    return report
