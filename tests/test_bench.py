"""The bench measures what it says, and a bound that is missed is seen."""

import io
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from bench import __main__ as bench
from bench import cold_start, first_sync, recovery, report
from bench.gmail import Watched
from bench.mailbox import ADDRESS, PAIRS, fill, optimum, sizes
from bench.processes import fake_gmail, folder, function, measurable
from bench.report import Figure, at_least, at_most
from local.gmail.clock import ManualClock
from local.gmail.mailbox import Mailbox
from tests.conftest import Require

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def quiet(_what: str) -> None:
    """Tell nobody how far it is."""


def values(figures: list[Figure]) -> dict[str, float | None]:
    """The figures by name."""
    return {figure.name: figure.value for figure in figures}


def test_thread_sizes() -> None:
    """3,000 messages come in threads of one, two, four and ten, 60, 20, 10 and 10 % of all; each number is kept to."""
    threads = Counter(sizes(3000))
    assert threads == {1: 750, 2: 250, 4: 125, 10: 125}
    assert all(sum(sizes(count)) == count for count in (1, 9, 24, 1000))
    assert list(sizes(5, PAIRS)) == [2, 2, 1]


def test_the_planners_optimum() -> None:
    """For each thread what is cheaper: a get for each message, or one for the thread."""
    assert optimum(3000, message=20, thread=40) / 3000 == pytest.approx(11.67, abs=0.01)
    assert optimum(3000, message=20, thread=10_000) == 60_000
    assert optimum(4, message=20, thread=40, cycle=(1, 3)) == 60


def test_a_full_mailbox() -> None:
    """A mailbox is filled as asked, the same on every run, with mail that has a text."""
    boxes = [Mailbox(ADDRESS, clock=ManualClock(NOW), rng=Random(0)) for _ in range(2)]
    filled = [fill(box, 50) for box in boxes]
    assert boxes[0].truth() == boxes[1].truth()
    assert [len(ids) for ids in filled[0].threads] == list(sizes(50))
    messages = boxes[0].truth()["messages"]
    assert len(messages) == 50
    assert all(messages[i]["threadId"] == thread[0] for thread in filled[0].threads for i in thread)
    assert all(message["body"]["text"] for message in messages.values())


def test_what_is_fetched_is_remembered() -> None:
    """The fake tells whose content was asked for, whole or message by message, and takes its time for each message."""
    slept: list[float] = []
    world = Watched(clock=ManualClock(NOW), sleep=slept.append)
    world.message_latency = 0.004
    one, four = fill(world.add(ADDRESS), 5, (1, 4)).threads
    world.call(ADDRESS, "users.messages.get", {"message_id": four[1]})
    world.call(ADDRESS, "users.threads.get", {"thread_id": four[0]})
    world.call(ADDRESS, "users.messages.list", {})
    assert world.fetched == {four[0]: 2}
    assert one[0] not in world.fetched
    assert slept == [0.004, 0.016]


@pytest.mark.parametrize(
    ("bound", "kept", "missed"), [(at_most(1.02), 1.02, 1.021), (at_least(4), 4.0, 3.99), (at_most(0), 0, 1)]
)
def test_bounds(bound: report.Bound, kept: float, missed: float) -> None:
    """A figure is held to its bound; what could not be measured keeps none."""
    figure = Figure("it", "is", kept, bound=bound)
    assert figure.ok
    assert not replace(figure, value=missed).ok
    assert not replace(figure, value=None).ok
    assert Figure("it", "is told", 5.0).ok


def test_the_table_shows_what_the_json_says() -> None:
    """Both name each figure, its value, its bound and whether it holds."""
    figures = [Figure("a", "fine", 3.0, "units", at_most(10)), Figure("b", "slow", 1.0, "×", at_least(4), note="why")]
    told = json.loads(report.to_json(figures))
    assert told["ok"] is False
    assert [figure["ok"] for figure in told["figures"]] == [True, False]
    assert told["figures"][1] | {"bound": {"at least": 4}, "note": "why"} == told["figures"][1]
    screen = Console(width=150, record=True, file=io.StringIO())
    screen.print(report.table(figures))
    rows = [line.split() for line in screen.export_text().splitlines()]
    assert ["a", "fine", "3", "units", "≤", "10", "ok"] in rows
    assert ["b", "slow", "1", "×", "≥", "4", "✗", "why"] in rows


def test_the_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missed bound is what the exit code tells, and the figures are in the file that was asked for."""
    figures = {"first_sync": [Figure("a", "fine", 1.0, bound=at_most(1))]}
    monkeypatch.setattr(bench, "measure", lambda name, _say: figures[name])
    file = tmp_path / "figures.json"
    assert bench.main(["--only", "first_sync", "--json", str(file)]) == 0
    figures["first_sync"].append(Figure("a", "slow", 2.0, bound=at_most(1)))
    assert bench.main(["--only", "first_sync", "--json", str(file)]) == 1
    assert [figure["value"] for figure in json.loads(file.read_text())["figures"]] == [1.0, 2.0]


def test_a_small_first_sync() -> None:
    """The quota's figures hold for a small mailbox too; what each run costs beside its messages weighs more there."""
    figures = values(first_sync.measure(quiet, 240))
    assert figures["calls rejected"] == 0
    assert figures["messages that differ afterwards"] == 0
    assert 1 <= (figures["units, of the optimum"] or 0) < 1.1


def test_a_small_recovery() -> None:
    """Every change is found, nothing else is fetched, and an audit of what is equal finds nothing."""
    figures = list(recovery.measure(quiet, 80, 10, 8))
    assert [figure.name for figure in figures if not figure.ok] == []
    (lost,) = (figure for figure in figures if figure.name.startswith("history 404"))
    # What was changed is read again, and the run came about because of the 404.
    assert 8 * 20 <= (lost.value or 0) < 8 * 40 + 80
    assert lost.note == "run: repair"


def test_a_function_process(require: Require) -> None:
    """The deployed function mirrors a mailbox of the fake, and what it took is told by the process itself."""
    require(measurable(), "what a process took is read from /proc")
    with folder() as home, fake_gmail(home, (12,), cold=True) as root, function(home, root) as run_work:
        before = run_work.usage()
        (name,) = run_work.connect(1)
        assert run_work.sync(name).counts.messages == 12
        after = run_work.usage()
    assert after.cpu > before.cpu
    assert after.peak >= before.peak > 10


def test_every_entry_point_is_measured() -> None:
    """A cold start is measured for each entry point of main.py."""
    assert set(cold_start.entry_points()) == cold_start.REQUESTS.keys()
