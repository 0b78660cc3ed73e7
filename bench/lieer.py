"""Beside lieer, a tool that brings Gmail into a maildir: the same mailbox, the same fake Gmail, in the same run.

Knows: how both are started, and that each is asked in turn, in alternating order, for a whole first pull. Does not
know: how lieer is driven (`lieer_pull`) or what a function does. lieer runs as it is published, from an environment of
its own with the same versions of Google's client library.
"""

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.gmail import address
from bench.processes import fake_gmail, folder, function
from bench.report import Bound, Figure, at_least
from local.process import REPOSITORY
from tests.terraform.environment import CannotInstall, environment

MESSAGES = 3000
REPETITIONS = 5
REQUIREMENTS = REPOSITORY / "requirements-lieer.txt"


@dataclass(frozen=True, slots=True)
class Race:
    """What the fake Gmail is like, and by how much Mailmirror has to be faster."""

    name: str
    request: float
    message: float
    bound: Bound
    repetitions: int


RACES = (
    Race("no latency", 0.0, 0.0, at_least(1.2), REPETITIONS),
    Race("50 ms a request, 4 ms a message", 0.05, 0.004, at_least(4), REPETITIONS - 2),
)


def measure(say: Callable[[str], None], messages: int = MESSAGES) -> Iterator[Figure]:
    """Race them, each the same number of times, and compare the medians."""
    try:
        python = environment("lieer", REQUIREMENTS)
    except CannotInstall as error:
        yield Figure("lieer", "messages a second, of lieer's", None, note=str(error))
        return
    for race in RACES:
        yield from _race(say, python, race, messages)


def _race(say: Callable[[str], None], python: Path, race: Race, messages: int) -> Iterator[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    with folder() as home, fake_gmail(home, (messages, 50), request=race.request, message=race.message) as root:
        for number in range(race.repetitions):
            say(f"{race.name}, {number + 1} of {race.repetitions}")
            for turn in (number, number + 1):
                if turn % 2:
                    ours.append(messages / _mailmirror(home, root, messages))
                else:
                    theirs.append(messages / _lieer(home, root, python, messages))
    mailmirror, lieer = median(ours), median(theirs)
    yield Figure("lieer", f"Mailmirror, {race.name}", mailmirror, "messages/s", note=_range(ours))
    yield Figure("lieer", f"lieer {_version()}, {race.name}", lieer, "messages/s", note=_range(theirs))
    yield Figure("lieer", f"Mailmirror, of lieer, {race.name}", mailmirror / lieer, "×", race.bound)


def _mailmirror(home: Path, root: str, messages: int) -> float:
    """Seconds of one first sync into an empty SQLite file, by a function that has synced another mailbox before."""
    with function(home, root) as run_work:
        large, small = run_work.connect(2)
        run_work.sync(small)
        began = time.perf_counter()
        mailbox = run_work.sync(large)
        seconds = time.perf_counter() - began
    assert mailbox.counts.messages == messages, mailbox
    return seconds


def _lieer(home: Path, root: str, python: Path, messages: int) -> float:
    """Seconds of one first pull into an empty maildir, the start of the process left out."""
    with tempfile.TemporaryDirectory(dir=home) as maildir:
        command = [str(python), "-I", str(REPOSITORY / "bench" / "lieer_pull.py"), root, address(0), maildir]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["messages"] == messages, told
    return float(told["seconds"])


def _version() -> str:
    """The version that is pinned."""
    pinned = re.search(r"^lieer==(\S+)", REQUIREMENTS.read_text("utf-8"), re.MULTILINE)
    return pinned[1] if pinned else ""


def _range(rates: list[float]) -> str:
    return f"{min(rates):,.0f} to {max(rates):,.0f} in {len(rates)} runs"
