"""Consumers that follow one mailbox: how soon a change is with each of them.

Knows: the whole stack on Google's emulators, half of the consumers on event streams, half on pages that wait, and the
time from just before a commit, which its delta tells, to the moment a consumer has it. Does not know: what consumers
do with a delta. All times are of one machine's clock, and all processes share its cores.
"""

import base64
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from threading import Thread
from typing import Any

from bench.processes import folder
from bench.report import Figure, at_most
from local.emulators import EmulatorsMissing
from local.owner import MAILBOX
from local.stack import Backend, Settings, Stack, call
from mailmirror_client.reader import Delta, Reader
from mailmirror_client.service import Service

CONSUMERS = 20
CHANGES = 60
# From a commit to the slowest of them.
MOST_SECONDS = 1.0
_PAUSE_SECONDS = 0.3
_PATIENCE_SECONDS = 120.0


@dataclass
class Consumer:
    """One that follows; `seqs` and `lags`, seconds, are of the deltas it got."""

    reader: Reader
    cursor: str
    last: int
    stream: bool
    seqs: list[int] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)

    def follow(self) -> None:
        """Take each delta up to the last."""
        for delta in self.reader.follow(self.cursor, stream=self.stream):
            self._take(delta)
            if delta.seq >= self.last:
                return

    def _take(self, delta: Delta) -> None:
        self.lags.append((datetime.now(UTC) - delta.at).total_seconds())
        self.seqs.append(delta.seq)


def measure(say: Callable[[str], None]) -> Iterator[Figure]:
    """Let them follow."""
    name = f"a change to {CONSUMERS} consumers"
    try:
        consumers = follow(say)
    except EmulatorsMissing as missing:
        yield Figure("followers", name, None, note=str(missing))
        return
    lags = [lag for consumer in consumers for lag in consumer.lags]
    yield Figure("followers", f"{name}, {CHANGES} changes, median", statistics.median(lags), "s")
    yield Figure("followers", f"{name}, {CHANGES} changes, slowest", max(lags), "s", at_most(MOST_SECONDS))


def follow(
    say: Callable[[str], None], *, backend: Backend = "emulators", consumers: int = CONSUMERS, changes: int = CHANGES
) -> list[Consumer]:
    """Return consumers that have followed so many changes, one a commit.

    Raises:
        EmulatorsMissing: this machine has none.
        TimeoutError: some did not get all.
    """
    with folder() as home, Stack(Settings(home, backend, quiet_minutes=10)) as stack:
        say("connects the mailbox")
        call("POST", f"{stack.gmail}/control/mailboxes", {"emailAddress": MAILBOX})
        _deliver(stack, 0)
        call("PUT", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}", {})
        _until(stack, lambda mailbox: mailbox["phase"] == "live")
        readers = [Reader(Service(stack.url("read_mailboxes")), MAILBOX) for _ in range(consumers)]
        first = readers[0].deltas().deltas[-1]
        followers = [
            Consumer(reader, first.cursor, first.seq + changes, number % 2 == 0)
            for number, reader in enumerate(readers)
        ]
        threads = [Thread(target=follower.follow, daemon=True) for follower in followers]
        for thread in threads:
            thread.start()
        for number in range(1, changes + 1):
            say(f"change {number} of {changes}")
            _deliver(stack, number)
            # Each change has a delta of its own.
            _until(stack, partial(_reached, first.seq + number))
        give_up = time.monotonic() + _PATIENCE_SECONDS
        for thread in threads:
            thread.join(timeout=max(0.0, give_up - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError("A consumer did not get every delta.")
        for reader in readers:
            reader.service.close()
        return followers


def _deliver(stack: Stack, number: int) -> None:
    raw = f"From: bob@example.org\r\nTo: {MAILBOX}\r\nSubject: Change {number}\r\n\r\nHello.\r\n".encode()
    message = {"raw": base64.urlsafe_b64encode(raw).decode(), "labelIds": ["INBOX", "UNREAD"]}
    call("POST", f"{stack.gmail}/control/mailboxes/{MAILBOX}/deliver", {"messages": [message]})


def _reached(seq: int, mailbox: dict[str, Any]) -> bool:
    return bool(mailbox["deltaSeq"] >= seq)


def _until(stack: Stack, so: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the mailbox is so."""
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while not so(call("GET", f"{stack.url('manage_mailboxes')}/mailboxes/{MAILBOX}")):
        if time.monotonic() > give_up:
            raise TimeoutError("The mailbox did not get there.")
        time.sleep(_PAUSE_SECONDS)
