"""The function process under mailboxes a hundred times apart: the memory it takes, and what a message costs.

Knows: a first sync by the deployed `run_work` into SQLite, from a fake Gmail in another process. Does not know: what
the process does with its memory. The sizes differ a hundredfold; nothing else may.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mailmirror.model import Mailbox

from bench.processes import fake_gmail, folder, function, measurable
from bench.report import Figure, at_most

SIZES = (1_000, 10_000, 100_000)
LARGEST_MB = 200
# Flat: a hundred times the messages may take this much more memory: the process keeps the texts of the listing, 36
# bytes a message.
FLAT = 1.15
# Linear: what a message costs differs by no more than this between any two sizes; of CPU time, which has a share for
# each mailbox, a message of the largest takes no more than this of what one of the smallest takes.
LINEAR = 1.1
# A small mailbox first: what is imported and opened once is not what a message costs.
_FIRST = 200
# So many mailboxes of the smallest size: one of them takes too few ticks of the CPU's clock to be compared.
_SMALLEST = 8


@dataclass(frozen=True, slots=True)
class Cost:
    """What the first syncs of mailboxes of one size took.

    Attributes:
        peak: MB, the most the process ever had until the first of them was done.
        cpu: seconds a thousand messages.
        units, writes: quota units and document writes a message.
    """

    peak: float
    cpu: float
    units: float
    writes: float


def measure(say: Callable[[str], None], sizes: tuple[int, ...] = SIZES) -> Iterator[Figure]:
    """Mirror one mailbox after the other, each size by a new process."""
    if not measurable():
        yield Figure("memory", "peak memory", None, note="This machine has no /proc.")
        return
    costs: dict[int, Cost] = {}
    for size in sizes:
        say(f"first sync of {size:,} messages")
        cost = costs[size] = _cost(size, repeated=_SMALLEST if size == min(sizes) else 1)
        bound = at_most(LARGEST_MB) if size == max(sizes) else None
        yield Figure("memory", f"peak memory, {size:,} messages", cost.peak, "MB", bound)
        yield Figure("memory", f"CPU a thousand messages, {size:,} messages", cost.cpu, "s")
        yield Figure("memory", f"units a message, {size:,} messages", cost.units, "units")
        yield Figure("memory", f"writes a message, {size:,} messages", cost.writes, "writes")
    small, large = costs[min(sizes)], costs[max(sizes)]
    for name, ratio, most in (
        ("peak memory", large.peak / small.peak, FLAT),
        ("CPU a message", large.cpu / small.cpu, LINEAR),
    ):
        yield Figure("memory", f"{name}, largest of smallest mailbox", ratio, "×", at_most(most))
    units, writes = [cost.units for cost in costs.values()], [cost.writes for cost in costs.values()]
    for name, each in (("units", units), ("writes", writes)):
        yield Figure(
            "memory", f"{name} a message, dearest of cheapest size", max(each) / min(each), "×", at_most(LINEAR)
        )


def _cost(size: int, repeated: int) -> Cost:
    mailboxes = (_FIRST, *[size] * repeated)
    with folder() as home, fake_gmail(home, mailboxes, cold=True) as root, function(home, root) as run_work:
        first, *names = run_work.connect(len(mailboxes))
        run_work.sync(first)
        before, written = run_work.usage().cpu, _writes(run_work.path)
        synced: list[Mailbox] = []
        peak = 0.0
        for name in names:
            synced.append(run_work.sync(name))
            peak = peak or run_work.usage().peak
        messages = size * repeated
        assert sum(mailbox.counts.messages for mailbox in synced) == messages, synced
        return Cost(
            peak=peak,
            cpu=(run_work.usage().cpu - before) / messages * 1000,
            units=sum(mailbox.run.units for mailbox in synced if mailbox.run) / messages,
            writes=(_writes(run_work.path) - written + sum(map(_cleared, synced))) / messages,
        )


def _writes(path: Path) -> int:
    """How often the documents that are there were written: each counts its own."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT sum(version) FROM documents").fetchone()[0])


def _cleared(mailbox: Mailbox) -> int:
    """What is not there any more: the run's own documents, each written once and deleted once."""
    return 2 * (mailbox.run.pages + mailbox.run.plans) if mailbox.run else 0
