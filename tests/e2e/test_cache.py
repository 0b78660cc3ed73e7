"""An application's cache over a real life: begun during a backfill, its process killed 50 times, changes all the while.

The stack is all of Mailmirror, each function a process of its own; the consumer is another, which shares nothing with
them but HTTP. What it must show: its cache is the mirror and the mailbox, no delta was missed, none applied twice.
"""

import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

import pytest

from local import mail
from local.demo import FIRST_DAY, LAST_DAY, compare, read_mirror
from local.owner import MAILBOX, Owner
from local.process import REPOSITORY
from local.sides import read_truth
from local.stack import Settings, Stack, call
from mailmirror_client.cache import Cache
from mailmirror_client.reader import Reader
from mailmirror_client.service import Service

SEED = 47
MESSAGES = 650
THREADS = 260
KILLS = 50
LIMIT = 60.0
# The backfill takes about as long as the killing: 20 units a message.
UNITS_PER_MINUTE = 24_000


@contextmanager
def living(owner: Owner) -> Iterator[Counter[str]]:
    """Let the owner make changes, some each second, for as long as the `with` block lasts; yield how many."""
    over, made = Event(), Counter[str]()

    def live() -> None:
        while not over.wait(owner.rng.uniform(0.05, 0.25)):
            owner.act()
            made["changes"] += 1

    thread = Thread(target=live)
    thread.start()
    try:
        yield made
    finally:
        over.set()
        thread.join()


class Consumer:
    """The application's process, one after the other, with one file."""

    def __init__(self, stack: Stack, file: Path) -> None:
        self.command = [sys.executable, "-m", "tests.e2e.consumer", stack.url("read_mailboxes"), MAILBOX, str(file)]
        self.file = file

    def live_and_die(self, how: str, seconds: float) -> None:
        """Run for so long, and be killed."""
        with subprocess.Popen([*self.command, how], cwd=REPOSITORY, stderr=subprocess.PIPE) as process:
            try:
                _, error = process.communicate(timeout=seconds)
                raise AssertionError(f"The consumer ended by itself: {error.decode()}")
            except subprocess.TimeoutExpired:
                process.kill()

    def finish(self) -> None:
        """Run until it is equal to the mirror."""
        subprocess.run([*self.command, "once"], cwd=REPOSITORY, check=True, timeout=LIMIT)

    def journal(self) -> list[tuple[int, str]]:
        """The deltas applied, in order, and by which kind of process."""
        with closing(sqlite3.connect(self.file)) as database:
            return database.execute("SELECT seq, how FROM journal ORDER BY rowid").fetchall()


@pytest.mark.timeout(300)
def test_a_consumer_killed_again_and_again(tmp_path: Path) -> None:
    """Over streams and over long polling, through backfill and live changes: nothing missed, nothing twice, equal."""
    began, rng = time.monotonic(), Random(SEED)
    items = list(mail.made_up(rng, MESSAGES + 400, THREADS, start=FIRST_DAY, end=LAST_DAY, owner=MAILBOX))
    settings = Settings(tmp_path, seed=SEED, units_per_minute=UNITS_PER_MINUTE)
    with Stack(settings) as stack:
        call("POST", f"{stack.gmail}/control/mailboxes", {"emailAddress": MAILBOX})
        owner = Owner(stack.gmail, Random(SEED), iter(items[MESSAGES:]))
        owner.receive(items[:MESSAGES])
        call("PUT", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}", {})
        consumer = Consumer(stack, tmp_path / "cache.sqlite")
        until(lambda: state(stack)["counts"]["messages"] > 0)
        first = state(stack)
        with living(owner) as made:
            for _ in range(KILLS):
                consumer.live_and_die(rng.choice(["stream", "pages"]), rng.uniform(0.3, 1.1))
        killed = state(stack)
        until(lambda: settled(stack))
        consumer.finish()
        last = state(stack)
        assert first["phase"] == "backfilling"
        assert [row for row in compare(stack) if row.differences] == []
        check_equal(stack, consumer.file)
        journal = consumer.journal()
        assert [seq for seq, _ in journal] == list(range(journal[0][0], last["deltaSeq"] + 1))
        by = Counter(how for _, how in journal)
        origins = Counter(delta["origin"] for delta in read_mirror(stack, MAILBOX).deltas.values())
    print(
        f"\n{KILLS} kills, {made['changes']} changes meanwhile; {first['counts']['messages']} of {MESSAGES} messages "
        f"mirrored before the first start, {killed['counts']['messages']} after the last kill, "
        f"{last['counts']['messages']} in the end; {len(journal)} of {last['deltaSeq']} deltas applied "
        f"({dict(by)}; in the log {dict(origins)}), each once; {time.monotonic() - began:.0f} s."
    )
    # Otherwise this proves too little.
    assert first["counts"]["messages"] < MESSAGES / 2
    assert min(by["stream"], by["pages"]) > 10
    assert min(10 * origins["backfill"], origins["live"]) >= 40


def check_equal(stack: Stack, file: Path) -> None:
    """The cache has the mirror's messages and the mailbox's, field by field."""
    with Cache(file, Reader(Service("http://127.0.0.1:1"), MAILBOX)) as cache:
        cached = {document["id"]: document for document in cache.messages()}
    mirrored = {key: plain(document) for key, document in read_mirror(stack, MAILBOX).messages.items()}
    names = ("id", "threadId", "labelIds", "internalDate", "headers", "snippet", "sizeEstimate")
    assert cached == {key: {name: document[name] for name in names} for key, document in mirrored.items()}
    truth = read_truth(stack.gmail, MAILBOX).messages
    assert {key: (document["threadId"], document["labelIds"]) for key, document in cached.items()} == {
        key: (message["threadId"], sorted(message["labelIds"])) for key, message in truth.items()
    }


def plain(value: Any) -> Any:
    """Return a stored value as HTTP has it."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    return [plain(item) for item in value] if isinstance(value, list) else value


def state(stack: Stack) -> dict[str, Any]:
    """What the mailbox says of itself."""
    return call("GET", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}")


def settled(stack: Stack) -> bool:
    """Whether the mirror says that it is complete, as of now."""
    [account] = call("GET", f"{stack.gmail}/control/mailboxes")["mailboxes"]
    document = state(stack)
    finished = (document["run"] or {}).get("stage") == "finished" and document["phase"] == "live"
    return finished and document["cursor"] >= int(account["historyId"])


def until(done: Any) -> None:
    """Wait for it; what is not done in time shows in what is asserted next."""
    give_up = time.monotonic() + LIMIT
    while not done() and time.monotonic() < give_up:
        time.sleep(0.1)
