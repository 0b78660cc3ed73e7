"""Made-up mail is what it promises, and mbox files are read however they were written."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from local.gmail.clock import ManualClock
from local.gmail.mailbox import Mailbox
from local.mail import MadeUpMail, MboxMail, made_up, read_labelled_mbox, read_mbox, write_mbox

END = datetime(2026, 3, 1, tzinfo=UTC)
START = END - timedelta(days=400)


@pytest.fixture(scope="module")
def mails() -> list[MadeUpMail]:
    """Two thousand made-up messages."""
    return list(made_up(random.Random(1), start=START, end=END))


def test_the_numbers_are_kept(mails: list[MadeUpMail]) -> None:
    """Exactly 2,000 messages, in order, within the time given; delivered they make about 900 threads."""
    mailbox = Mailbox("ada@example.com", clock=ManualClock(END), rng=random.Random(2))
    for mail in mails:
        mailbox.deliver(mail.raw, label_ids=mail.labels, internal_date=mail.internal_date)
    profile = mailbox.get_profile()
    assert profile["messagesTotal"] == len(mails) == 2000
    assert 880 <= profile["threadsTotal"] <= 920
    assert all(earlier.internal_date <= later.internal_date for earlier, later in pairwise(mails))
    assert mails[0].internal_date >= START
    assert mails[-1].internal_date <= END


def test_it_is_the_same_for_the_same_seed(mails: list[MadeUpMail]) -> None:
    """The same rng makes the same mail, byte by byte; another one other mail."""
    assert list(made_up(random.Random(1), start=START, end=END)) == mails
    assert list(made_up(random.Random(2), start=START, end=END)) != mails


def test_it_is_made_and_delivered_quickly() -> None:
    """2,000 messages take less than two seconds, made and delivered."""
    began = time.perf_counter()
    mailbox = Mailbox("ada@example.com", clock=ManualClock(END), rng=random.Random(2))
    for mail in made_up(random.Random(1), start=START, end=END):
        mailbox.deliver(mail.raw, label_ids=mail.labels, internal_date=mail.internal_date)
    assert time.perf_counter() - began < 2


def test_it_has_the_variety_of_mail(mails: list[MadeUpMail]) -> None:
    """Replies, HTML, with and without plain text, files, pictures, charsets, labels, and two or three large texts."""
    for pattern, at_least in (
        (b"In-Reply-To: ", 900),
        (b"multipart/alternative", 500),
        (b"Content-Disposition: attachment", 150),
        (b"charset=iso-8859-1", 100),
        (b"charset=utf-8", 100),
        (b"quoted-printable", 100),
        (b"\r\nSubject: =?utf-8?B?", 100),
        (b"\r\nContent-Type: text/html", 20),
        (b"Content-ID: <", 20),
        (b"method=REQUEST", 10),
        (b"lists.example", 10),
    ):
        assert sum(pattern in mail.raw for mail in mails) >= at_least, pattern
    large = [mail for mail in mails if len(mail.raw) > 300_000]
    assert 2 <= len(large) <= 3
    labels = Counter(label for mail in mails for label in mail.labels)
    assert labels.keys() >= {"INBOX", "UNREAD", "SENT", "STARRED", "IMPORTANT", "TRASH", "SPAM", "CATEGORY_UPDATES"}
    assert any(not mail.labels for mail in mails)


def test_every_text_decodes_to_what_was_written(mails: list[MadeUpMail]) -> None:
    """No replacement character in any subject, sender or body: the declared charsets are true."""
    mailbox = Mailbox("ada@example.com", clock=ManualClock(END), rng=random.Random(2))
    for mail in mails:
        mailbox.deliver(mail.raw)
    for message in mailbox.truth()["messages"].values():
        names = [message["subject"], message["from"]["name"], *(each["filename"] for each in message["attachments"])]
        assert "\ufffd" not in "".join([*names, *message["body"].values()])
        assert message["subject"]
        assert message["from"]["address"].endswith(".example") or message["from"]["address"] == "ada@example.com"
        assert message["body"]["text"]
        assert not any("=?" in name for name in names)


def test_there_is_more_than_one_part_to_some_of_it(mails: list[MadeUpMail]) -> None:
    """HTML alone, a footer below the text, a file behind a large text, and what is no file to its reader."""
    mailbox = Mailbox("ada@example.com", clock=ManualClock(END), rng=random.Random(2))
    for mail in mails:
        mailbox.deliver(mail.raw)
    found = list(mailbox.truth()["messages"].values())
    assert sum(message["rendered"] for message in found) >= 20
    footed = [message for message in found if message["body"]["text"].endswith("lists.example.\r\n")]
    assert len(footed) >= 10
    assert all(len(message["attachments"]) == 1 and not message["rendered"] for message in footed)
    large = [message for message in found if len(message["body"]["text"]) > 300_000]
    assert any(message["attachments"] and message["body"]["html"] for message in large)
    assert sum(any(not each["file"] for each in message["attachments"]) for message in found) >= 40


@pytest.mark.parametrize(("messages", "threads"), [(10, 11), (10, 0)])
def test_impossible_numbers_are_refused(messages: int, threads: int) -> None:
    """More threads than messages, or none, cannot be made."""
    with pytest.raises(ValueError, match="at least one message for each thread"):
        next(made_up(random.Random(1), messages, threads, start=START, end=END))


def test_an_mbox_comes_back_as_it_was_written(tmp_path: Path, mails: list[MadeUpMail]) -> None:
    """What write_mbox writes read_mbox reads, byte by byte, lines that begin with From included."""
    path = tmp_path / "mail.mbox"
    messages = [mail.raw for mail in mails[:200]]
    messages.append(b"Subject: quotes\n\nFrom me to you\n>From him\n\nFrom: looks like a header\n>>From\n\n\n")
    messages.append(b"Subject: no line break at the end\n\nFrom here")
    write_mbox(path, messages)
    assert list(read_mbox(path)) == [*messages[:-1], messages[-1] + b"\n"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"Subject: no separator at all\n\nx\n", [b"Subject: no separator at all\n\nx\n"]),
        (b"From a\nA: 1\n\nx\n\nFrom b\nB: 2\n\ny\n", [b"A: 1\n\nx\n", b"B: 2\n\ny\n"]),
        (
            b"From a Mon Jan  1 10:00:00 2024\nA: 1\n\nx\nFrom b Tue Jan  2 10:00:00 2024\nB: 2\n\ny",
            [b"A: 1\n\nx\n", b"B: 2\n\ny"],
        ),
        (
            b"From a\nA: 1\n\nHello,\n\nFrom what I hear\nall is well.\n",
            [b"A: 1\n\nHello,\n\nFrom what I hear\nall is well.\n"],
        ),
        (b"From a\r\nA: 1\r\n\r\nx\r\n\r\nFrom b\r\nB: 2\r\n\r\ny\r\n", [b"A: 1\r\n\r\nx\r\n", b"B: 2\r\n\r\ny\r\n"]),
        (b"From a\nA: 1\n\n>From quoted\n", [b"A: 1\n\nFrom quoted\n"]),
    ],
    ids=["empty", "blank", "no separator", "plain", "no blank line", "From in a text", "crlf", "quoted"],
)
def test_broken_separators_lose_and_split_nothing(tmp_path: Path, content: bytes, expected: list[bytes]) -> None:
    """Missing blank lines, missing separators, unquoted From lines and CRLF are all understood."""
    path = tmp_path / "mail.mbox"
    path.write_bytes(content)
    assert list(read_mbox(path)) == expected


def test_takeout_labels_become_gmails(tmp_path: Path) -> None:
    """System labels get Gmail's ids, Opened and Archived say nothing, labels of the user keep their names."""
    path = tmp_path / "takeout.mbox"
    messages = [
        b"X-Gmail-Labels: Inbox,Important,Opened,Category Updates\nSubject: a\n\nx\n",
        b"X-Gmail-Labels: =?utf-8?Q?Archived,Unread,Reisen_f=C3=BCr_zwei?=\nSubject: b\n\nx\n",
        b"Subject: c\n\nx\n",
    ]
    write_mbox(path, messages)
    assert list(read_labelled_mbox(path)) == [
        MboxMail(messages[0], ("INBOX", "IMPORTANT", "CATEGORY_UPDATES")),
        MboxMail(messages[1], ("UNREAD", "Reisen für zwei")),
        MboxMail(messages[2], ("INBOX",)),
    ]
