"""Mail to fill a mailbox with: made up, or from an mbox file.

It knows who writes to whom, and when, and how mbox files are written and miswritten. It does not know what a message
consists of (`parts` does), nor the fake Gmail: labels are names, system labels in Gmail's spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from random import Random

from local.gmail.mime import header, parse_headers
from local.parts import body, encoded_words

_LARGE_MESSAGES = 3

_PEOPLE = (
    ("Grace Hopper", "grace@navy.example"),
    ("Edsger Dijkstra", "edsger@thes.example"),
    ("Barbara Liskov", "barbara@clu.example"),
    ("Jürgen Moser", "juergen@kam.example"),
    ("Françoise Barré", "francoise@pasteur.example"),
    ("Билл Иванов", "bill@ural.example"),
    ("山田花子", "hanako@kyoto.example"),
    ("Alan Kay", "alan@parc.example"),
    ("Radia Perlman", "radia@bridge.example"),
    ("Build Robot", "builds@ci.example"),
    ("The Weekly Digest", "digest@news.example"),
)
_TOPICS = (
    "Minutes of Monday's meeting",
    "Invoice {number}",
    "Lunch on Thursday?",
    "Deploy of release {number} is done",
    "Re-indexing the archive, take {number}",
    "Die Prüfung der Anlage {number}",
    "Réunion d'équipe n° {number}",
    "Отчёт за неделю {number}",
    "予約の確認 {number}",
    "Your order {number} has shipped",
    "Fwd: tickets for the {number} o'clock train",
    "Question about chapter {number}",
    "Photos from the lake",
    "[ci] build {number} failed",
)


@dataclass(frozen=True, slots=True)
class MadeUpMail:
    """One message to deliver: its source, Gmail's system labels, when it came."""

    raw: bytes
    labels: tuple[str, ...]
    internal_date: datetime


@dataclass(frozen=True, slots=True)
class MboxMail:
    """One message of an mbox file: system labels in Gmail's spelling, labels of the user by name."""

    raw: bytes
    labels: tuple[str, ...]


@dataclass(slots=True)
class _Thread:
    """A conversation in the making."""

    subject: str
    other: tuple[str, str]
    dates: list[datetime]
    message_ids: list[str]


def made_up(
    rng: Random,
    messages: int = 2000,
    threads: int = 900,
    *,
    start: datetime,
    end: datetime,
    owner: str = "ada@example.com",
) -> Iterator[MadeUpMail]:
    """So many messages in so many threads between two times, oldest first, the same for the same rng."""
    if not 0 < threads <= messages or start >= end:
        raise ValueError("Made-up mail needs at least one message for each thread, and a start before its end.")
    conversations = _conversations(rng, messages, threads, start, end)
    schedule = sorted(
        (date, number, position)
        for number, conversation in enumerate(conversations)
        for position, date in enumerate(conversation.dates)
    )
    large = set(rng.sample(range(messages), min(_LARGE_MESSAGES, messages // 100)))
    for index, (date, number, position) in enumerate(schedule):
        conversation = conversations[number]
        by_owner = position > 0 and rng.random() < 0.45
        raw = _compose(rng, conversation, position, date, ("Ada Lovelace", owner), by_owner, index in large)
        yield MadeUpMail(raw, ("SENT",) if by_owner else _labels(rng, date, end), date)


def read_mbox(path: Path | str) -> Iterator[bytes]:
    """The messages of an mbox file, one at a time, however its separators were broken.

    A line is a separator if it begins with "From ", the next line looks like a header, and either the line before is
    blank or the line carries a date. So neither a missing blank line nor an unquoted "From " in a text loses or splits
    a message.
    """
    message: list[bytes] = []
    blank_before = True
    with Path(path).open("rb") as file:
        for line, following in pairwise(_with_end(file)):
            dated = _DATED_SEPARATOR.match(line) is not None
            if line.startswith(b"From ") and (blank_before or dated) and _HEADER.match(following):
                if any(part.strip() for part in message):
                    yield _joined(message)
                message = []
            elif message or line.strip():
                message.append(line[1:] if _QUOTED.match(line) else line)
            blank_before = not line.strip()
    if any(part.strip() for part in message):
        yield _joined(message)


def read_labelled_mbox(path: Path | str) -> Iterator[MboxMail]:
    """The messages of an mbox file with the labels a Google Takeout export gives them in X-Gmail-Labels.

    English exports only: in another language the system labels come out as labels of the user. A message without the
    header goes to the inbox, read.
    """
    for raw in read_mbox(path):
        names = header(parse_headers(raw), "X-Gmail-Labels")
        yield MboxMail(raw, _takeout_labels(names) if names else ("INBOX",))


def write_mbox(path: Path | str, messages: Iterable[bytes]) -> None:
    """An mbox file (mboxrd) of these messages; a message that does not end with a line break gets one."""
    with Path(path).open("wb") as file:
        for raw in messages:
            file.write(b"From mailmirror@localhost Thu Jan  1 00:00:00 1970\n")
            file.writelines(b">" + line if _TO_QUOTE.match(line) else line for line in BytesIO(raw))
            file.write(b"\n" if raw.endswith(b"\n") else b"\n\n")


_DATED_SEPARATOR = re.compile(rb"From \S+.*\d\d:\d\d.*\d{4}")
_HEADER = re.compile(rb"[!-9;-~]+:")
_QUOTED = re.compile(rb">+From ")
_TO_QUOTE = re.compile(rb">*From ")

# What Takeout calls the system labels. Opened and Archived say only that another label is missing.
_TAKEOUT_NAMES = {
    "inbox": "INBOX",
    "unread": "UNREAD",
    "sent": "SENT",
    "drafts": "DRAFT",
    "starred": "STARRED",
    "important": "IMPORTANT",
    "trash": "TRASH",
    "spam": "SPAM",
    "chat": "CHAT",
    "category personal": "CATEGORY_PERSONAL",
    "category social": "CATEGORY_SOCIAL",
    "category updates": "CATEGORY_UPDATES",
    "category forums": "CATEGORY_FORUMS",
    "category promotions": "CATEGORY_PROMOTIONS",
    "category purchases": "CATEGORY_UPDATES",
    "category travel": "CATEGORY_UPDATES",
    "opened": None,
    "archived": None,
}


def _takeout_labels(names: str) -> tuple[str, ...]:
    labels = []
    for name in names.split(","):
        plain = name.strip().strip('"')
        label = _TAKEOUT_NAMES.get(plain.casefold(), plain)
        if label:
            labels.append(label)
    return tuple(dict.fromkeys(labels))


def _with_end(lines: Iterable[bytes]) -> Iterator[bytes]:
    yield from lines
    yield b""


def _joined(lines: list[bytes]) -> bytes:
    """Without the one blank line that ends a message in an mbox file."""
    return b"".join(lines[:-1] if not lines[-1].strip() else lines)


def _conversations(rng: Random, messages: int, threads: int, start: datetime, end: datetime) -> list[_Thread]:
    """Threads with their dates; a few take most of the replies, as in life."""
    lengths = [1] * threads
    for _ in range(messages - threads):
        lengths[int(threads * rng.random() ** 2)] += 1
    rng.shuffle(lengths)
    span = (end - start).total_seconds()
    conversations = []
    for number, length in enumerate(lengths):
        begin = span * rng.random() ** 0.7
        # Replies come soon or not at all; what would come after the end is pressed into the time that is left.
        delays = (min(rng.expovariate(1 / 90_000), span - begin) * rng.random() for _ in range(length - 1))
        offsets = sorted(begin + delay for delay in delays)
        dates = [start + timedelta(seconds=int(offset)) for offset in [begin, *offsets]]
        subject = rng.choice(_TOPICS).format(number=rng.randrange(1, 4000))
        ids = [f"<{number:x}.{position:x}.{rng.getrandbits(48):012x}@mail.example>" for position in range(length)]
        conversations.append(_Thread(subject, rng.choice(_PEOPLE), dates, ids))
    return conversations


def _labels(rng: Random, date: datetime, end: datetime) -> tuple[str, ...]:
    chance = rng.random()
    if chance < 0.03:
        return ("TRASH",)
    if chance < 0.06:
        return ("SPAM", "UNREAD")
    recent = end - date < timedelta(days=60)
    labels = [label for label, odds in (("STARRED", 0.05), ("IMPORTANT", 0.3)) if rng.random() < odds]
    if rng.random() < (0.9 if recent else 0.3):
        labels.append("INBOX")
    if rng.random() < (0.3 if recent else 0.02):
        labels.append("UNREAD")
    if rng.random() < 0.5:
        labels.append(rng.choice(("CATEGORY_PERSONAL", "CATEGORY_UPDATES", "CATEGORY_PROMOTIONS", "CATEGORY_SOCIAL")))
    return tuple(labels)


def _compose(
    rng: Random,
    conversation: _Thread,
    position: int,
    date: datetime,
    owner: tuple[str, str],
    by_owner: bool,
    large: bool,
) -> bytes:
    sender, receiver = (owner, conversation.other) if by_owner else (conversation.other, owner)
    subject = conversation.subject if position == 0 else f"Re: {conversation.subject}"
    lines = [
        f"From: {_address(sender)}",
        f"To: {_address(receiver)}",
        f"Subject: {encoded_words(subject)}",
        f"Date: {format_datetime(date)}",
        f"Message-ID: {conversation.message_ids[position]}",
    ]
    if rng.random() < 0.15:
        lines.append(f"Cc: {_address(rng.choice(_PEOPLE))}")
    if position:
        # Long threads name their first message and the latest few, as mail programs do.
        known = [conversation.message_ids[0], *conversation.message_ids[1:position][-9:]]
        lines += [f"In-Reply-To: {conversation.message_ids[position - 1]}", "References: " + "\r\n ".join(known)]
    lines.append("MIME-Version: 1.0")
    return "\r\n".join(lines).encode() + b"\r\n" + body(rng, sender[0].split()[0], large=large)


def _address(person: tuple[str, str]) -> str:
    return f"{encoded_words(person[0])} <{person[1]}>"
