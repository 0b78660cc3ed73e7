"""Mailboxes to measure with: so many messages in threads of known sizes, the same on every run.

Knows: how many messages each thread has, and what a message is made of: the bodies of `local.mail`, the few largest
left out. Does not know: who reads the mailbox, or what is measured. The fake's own door for mail is used, without HTTP.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from random import Random

from local.gmail.mailbox import Mailbox
from local.mail import made_up

ADDRESS = "ada@example.com"

# Ten threads with 24 messages: 60 % of the threads have one message, 20 % two, 10 % four, 10 % ten.
MIXED = (1, 2, 1, 10, 1, 1, 4, 1, 2, 1)
PAIRS = (2,)

_START, _END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
_HEAD_ENDS = b"MIME-Version: 1.0\r\n"
_LARGEST = 50_000


@dataclass(frozen=True, slots=True)
class Filled:
    """What a mailbox was filled with: the ids of each thread's messages, oldest first."""

    threads: tuple[tuple[str, ...], ...]

    @property
    def ids(self) -> list[str]:
        """Every message."""
        return [message_id for thread in self.threads for message_id in thread]


def sizes(messages: int, cycle: Sequence[int] = MIXED) -> Iterator[int]:
    """Yield thread sizes, the cycle again and again, until there are so many messages; the last thread may be cut."""
    left = messages
    while True:
        for size in cycle:
            if left <= 0:
                return
            yield min(size, left)
            left -= size


def optimum(messages: int, *, message: int, thread: int, cycle: Sequence[int] = MIXED) -> int:
    """Return the fewest units that bring so many messages, at these prices: a get for each, or one for the thread."""
    return sum(min(message * size, thread) for size in sizes(messages, cycle))


def fill(mailbox: Mailbox, messages: int, cycle: Sequence[int] = MIXED, *, seed: int = 0) -> Filled:
    """Deliver so many messages and return where they went."""
    rng = Random(seed)
    bodies = _bodies()
    step = (_END - _START) / messages
    threads: list[tuple[str, ...]] = []
    number = 0
    for size in sizes(messages, cycle):
        ids: list[str] = []
        for position in range(size):
            date = _START + step * number
            raw = _head(len(threads), position, date) + bodies[rng.randrange(len(bodies))]
            unread = rng.random() < 0.1
            labels = ("INBOX", "UNREAD") if unread else ("INBOX",)
            # The id of its first message is the thread's.
            thread = ids[0] if ids else None
            ids.append(mailbox.deliver(raw, thread_id=thread, label_ids=labels, internal_date=date))
            number += 1
        threads.append(tuple(ids))
    return Filled(tuple(threads))


def warm(mailbox: Mailbox, filled: Filled) -> None:
    """Let the fake work out what it would otherwise work out at the first get: its time is not to be measured."""
    for message_id in filled.ids:
        mailbox.get_message(message_id)


@cache
def _bodies() -> list[bytes]:
    """Texts, HTML and attachments of every kind, each from its Content-Type on."""
    mail = made_up(Random(1), 1200, 500, start=_START, end=_END, owner=ADDRESS)
    return [each.raw.partition(_HEAD_ENDS)[2] for each in mail if len(each.raw) <= _LARGEST]


def _head(thread: int, position: int, date: datetime) -> bytes:
    lines = [
        f"From: Person {thread % 97} <person{thread % 97}@mail.example>",
        f"To: Ada Lovelace <{ADDRESS}>",
        f"Subject: {'Re: ' if position else ''}Topic number {thread}",
        f"Date: {format_datetime(date + timedelta(seconds=position))}",
        f"Message-ID: <{thread}.{position}@mail.example>",
    ]
    if position:
        lines.append(f"In-Reply-To: <{thread}.{position - 1}@mail.example>")
    return "\r\n".join(lines).encode() + b"\r\n" + _HEAD_ENDS
