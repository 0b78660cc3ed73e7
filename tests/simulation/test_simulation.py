"""No schedule of crashes, faults and reorderings makes the mirror wrong: CI's schedules, and the seeds once found."""

import json
import os
import subprocess
import sys

import pytest

from tests.simulation import report
from tests.simulation.conftest import LINES
from tests.simulation.faults import KINDS
from tests.simulation.world import simulate

SEEDS = 2000
# What strikes for a reason of its own, besides the kinds that are drawn.
OTHERS = {
    "access revoked",
    "gmail down",
    "history lost",
    "message answered 500",
    "message killed its worker",
    "message unreadable",
    "watch lapsed",
}


@pytest.mark.timeout(240)
def test_no_schedule_makes_the_mirror_wrong(pytestconfig: pytest.Config) -> None:
    """Two thousand schedules, every kind of fault having struck in them: not one violation."""
    result = report.run(range(SEEDS))
    pytestconfig.stash[LINES] += result.lines()
    assert result.violations == []
    assert result.seeds == SEEDS
    assert set(result.struck) >= {*KINDS, *OTHERS}


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_is_always_the_same(seed: int) -> None:
    """Two runs of a seed do the same in the same order, whether somebody listens or not."""
    story: list[str] = []
    told = simulate(seed, story.append)
    assert told == simulate(seed)
    assert len(story) > 10
    assert simulate(seed + 1).trail != told.trail


def test_a_seed_is_the_same_everywhere() -> None:
    """A seed does not depend on the process that runs it: neither on the order of sets nor on seeds run before it."""
    code = (
        "import json; from tests.simulation.world import simulate; print(json.dumps([simulate(s).trail for s in {}]))"
    )
    trails = []
    for hash_seed, seeds in (("1", range(20)), ("2", range(19, -1, -1))):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", code.format(list(seeds))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=100)
        trails.append(json.loads(done.stdout))
    assert trails[0] == trails[1][::-1]
