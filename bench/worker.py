"""A worker on virtual time: the real engine, the real Gmail client over HTTP, SQLite, and a fake Gmail that charges.

Knows: how they are wired, and that work left over is gone on with, as by `run_work`. Does not know: what is measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from mailmirror.adapters.gmail import GmailApiAccounts
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.engine import SyncEngine
from mailmirror.errand import Errand
from mailmirror.errors import Throttled
from mailmirror.keep import Kept
from mailmirror.lease import Pace
from mailmirror.model import Mailbox, Watch
from mailmirror.quota import PRICES

from bench.clock import VirtualClock
from bench.gmail import Watched, serving
from bench.mailbox import ADDRESS

STEP = timedelta(seconds=480)
UNITS_PER_MINUTE = 6000
_TOPIC = "projects/bench/topics/gmail-notifications"


@dataclass(frozen=True, slots=True)
class Spent:
    """What the fake Gmail charged, and how often it refused, between two moments."""

    units: int
    rejected: int


class Worker:
    """One mailbox, and who mirrors it."""

    def __init__(self, clock: VirtualClock, world: Watched, root: str, store: SqliteStore) -> None:
        """Connect the mailbox; nothing is mirrored yet, and no watch is there."""
        self.clock = clock
        self.world = world
        self.gmail = world.add(ADDRESS)
        self.store = store
        self._root = root
        self._owners = count()
        now = clock.now()
        store.create_mailbox(Mailbox(ADDRESS, created_at=now, watch=Watch(now), next_due_at=now))

    @property
    def mailbox(self) -> Mailbox:
        """The mailbox as stored."""
        mailbox = self.store.mailbox(ADDRESS)
        assert mailbox is not None
        return mailbox

    def sync(self, hint: int = 0, *, units_per_minute: int = UNITS_PER_MINUTE) -> Spent:
        """Do all there is to do, step by step, and return what it cost."""
        engine = self._engine(units_per_minute)
        before = self.world.quota.account()
        while True:
            errand = Errand(ADDRESS, self.clock.now() + STEP, hint=hint)
            try:
                status = engine.sync(errand).status
            except Throttled as refused:
                self._rest(refused)
                continue
            if status == "done":
                break
            assert status == "unfinished", status
            hint = 0
        return _between(before, self.world.quota.account())

    def _rest(self, refused: Throttled) -> None:
        until = self.mailbox.throttled_until or refused.until
        if until is not None:
            self.clock.sleep((until - self.clock.now()).total_seconds())

    def _engine(self, units_per_minute: int) -> SyncEngine:
        accounts = GmailApiAccounts(
            lambda _: None, clock=self.clock, topic=_TOPIC, api_root=self._root, units_per_minute=units_per_minute
        )
        return SyncEngine(
            accounts,
            self.store,
            blobs=None,
            clock=self.clock,
            pace=Pace(),
            kept=Kept(),
            prices=PRICES["2026"],
            new_owner=lambda: f"{next(self._owners)}",
            recovery="thread-history",
            announcer=None,
        )

    def differences(self) -> list[str]:
        """Return the messages that are in one of mailbox and mirror only, or have other labels there."""
        truth = {i: frozenset(message["labelIds"]) for i, message in self.gmail.truth()["messages"].items()}
        mirrored: dict[str, frozenset[str]] = {}
        after = ""
        while page := self.store.scan_threads(ADDRESS, after=after, limit=500):
            mirrored |= {i: entry.label_ids for thread in page for i, entry in thread.messages.items()}
            after = page[-1].id
        return sorted(i for i in truth.keys() | mirrored.keys() if truth.get(i) != mirrored.get(i))


@contextmanager
def at_work(*, units_per_minute: int | None) -> Iterator[Worker]:
    """Give a worker; `units_per_minute` is what Gmail grants, None without a limit."""
    clock = VirtualClock()
    world = Watched(clock=clock, units_per_minute=units_per_minute, sleep=clock.sleep)
    with serving(world) as root, SqliteStore(":memory:") as store:
        yield Worker(clock, world, root, store)


def _between(before: dict[str, Any], after: dict[str, Any]) -> Spent:
    return Spent(after["units"] - before["units"], after["rejected"] - before["rejected"])
