"""Threads and messages by conditions: those that fit, each once, in order, over all pages, whatever is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror import finding
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.documents import to_document
from mailmirror.finding import Finding, Page, read_ask
from mailmirror.model import Address, Body, Headers, Mailbox, MailboxId, Message, Query, Thread, Watch
from mailmirror.slice import Document, Write
from mailmirror.threads import entry_of, thread_document

from tests.world import ADA

START = datetime(2026, 11, 20, tzinfo=UTC)
PEOPLE = ("ada@example.com", "bob@example.com", "cid@example.com")


@dataclass(frozen=True)
class Mail:
    """A message as a mirror may have it.

    Attributes:
        hidden: it went to more people than its document shows.
        unsigned: its thread has no room to repeat its sender.
    """

    message: Message
    hidden: bool = False
    unsigned: bool = False

    def document(self) -> dict[str, Any]:
        """The message's document."""
        headers = self.message.headers
        shown = dict.fromkeys(each.address for each in (*headers.to, *headers.cc, *headers.bcc))
        # As if one fitted.
        recipients = [*shown][:1] + (["*"] if self.hidden or len(shown) > 1 else [])
        return to_document(self.message) | {"recipients": recipients, "origin": "live", "syncedAt": START}


class Counting(SqliteStore):
    """A store that counts what is read by queries."""

    read = 0

    def query(self, mailbox: MailboxId, query: Query, *, limit: int) -> list[Document]:
        """As any, counted."""
        found = super().query(mailbox, query, limit=limit)
        self.read += len(found)
        return found


class Mirror:
    """A mirror of some mail."""

    def __init__(self, mails: Sequence[Mail] = ()) -> None:
        self.store = Counting(":memory:")
        self.mailbox = Mailbox(ADA, created_at=START, watch=Watch(START), next_due_at=START)
        self.store.create_mailbox(self.mailbox)
        self.finding = Finding(self.store)
        self.write(mails)

    def write(self, mails: Sequence[Mail]) -> None:
        """Mirror mail."""
        self.messages = {mail.message.id: mail.document() for mail in mails}
        threads: dict[str, Thread] = {}
        for each in mails:
            entry = entry_of(each.message)
            entry = replace(entry, from_=Address()) if each.unsigned else entry
            thread = threads.setdefault(each.message.thread_id, Thread(each.message.thread_id))
            messages = {**thread.messages, each.message.id: entry}
            threads[thread.id] = replace(thread, messages=messages)
        self.threads = {name: thread_document(thread) for name, thread in threads.items()}
        kinds = (("messages", self.messages), ("threads", self.threads))
        writes = [Write("put", (kind, name), data) for kind, all_ in kinds for name, data in all_.items()]
        for start in range(0, len(writes), 400):
            self.put(*writes[start : start + 400])

    def put(self, *writes: Write) -> None:
        """Commit what a worker would have committed."""
        stored = self.store.mailbox(ADA)
        assert stored is not None
        until = START + timedelta(hours=1)
        held = self.store.acquire(stored, owner="worker", now=START, expires_at=until)
        self.store.commit(held, held.mailbox, writes, expires_at=until, release=True)

    def ask(self, kind: finding.Kind, token: str | None = None, **given: str) -> Page:
        """One page."""
        pages = {} if token is None else {"pageToken": [token]}
        # `from` is Python's.
        asked = {("from" if name == "sender" else name): [value] for name, value in given.items()}
        ask = read_ask(kind, {**asked, **pages})
        return self.finding.threads(ADA, ask) if kind == "threads" else self.finding.messages(ADA, ask)

    def all(self, kind: finding.Kind, limits: Sequence[int], **given: str) -> list[Document]:
        """All pages, with these limits in turn; there is an end."""
        found, token = list[Document](), None
        for number in range(1_000):
            limit = limits[number % len(limits)]
            page = self.ask(kind, token, limit=str(limit), **given)
            assert len(page.documents) <= limit
            found += page.documents
            token = page.next
            if token is None:
                return found
        raise AssertionError("The pages do not end.")


def written(message: Document, address: str) -> bool:
    """Whether somebody wrote it."""
    author: str = message["headers"]["from"]["address"]
    return author == address


def went_to(message: Document, address: str) -> bool:
    """Whether it went to somebody, as far as its document shows."""
    headers = message["headers"]
    return address in [each["address"] for name in ("to", "cc", "bcc") for each in headers[name]]


def fits(labels: set[str], time: datetime, asked: Mapping[str, str]) -> bool:
    """Whether labels and time are what is asked for."""
    return (
        ("label" not in asked or asked["label"] in labels)
        and ("unread" not in asked or (asked["unread"] == "true") == ("UNREAD" in labels))
        and ("after" not in asked or time >= datetime.fromisoformat(asked["after"]))
        and ("before" not in asked or time < datetime.fromisoformat(asked["before"]))
    )


def expected_messages(mirror: Mirror, asked: Mapping[str, str]) -> list[str]:
    """The ids by looking at every message."""
    found = [
        message
        for message in mirror.messages.values()
        if fits(set(message["labelIds"]), message["internalDate"], asked)
        and ("sender" not in asked or written(message, asked["sender"]))
        and ("to" not in asked or went_to(message, asked["to"]))
        and ("thread" not in asked or message["threadId"] == asked["thread"])
    ]
    return [each["id"] for each in sorted(found, key=lambda each: (each["internalDate"], each["id"]), reverse=True)]


def expected_threads(mirror: Mirror, asked: Mapping[str, str]) -> list[str]:
    """The ids by looking at every thread and all its messages."""
    found: list[tuple[tuple[datetime, str], str]] = []
    for name, thread in mirror.threads.items():
        messages = [each for each in mirror.messages.values() if each["threadId"] == name]
        labels = {label for each in messages for label in each["labelIds"]}
        lasts = place = thread["lastMessageAt"], name
        ok = fits(labels, lasts[0], asked)
        for condition, holds in (("sender", written), ("to", went_to)):
            if condition in asked:
                such = [(each["internalDate"], each["id"]) for each in messages if holds(each, asked[condition])]
                ok, place = ok and bool(such), max(such, default=place)
        if ok:
            found.append((place, name))
    return [name for _, name in sorted(found, reverse=True)]


_LABELS = st.frozensets(st.sampled_from(["INBOX", "UNREAD", "Label_1"]))
_ADDRESSES = st.lists(st.sampled_from(PEOPLE).map(lambda address: Address("", address)), max_size=2).map(tuple)


@st.composite
def mails(draw: st.DrawFn) -> list[Mail]:
    """Mail in a few threads, some of the same time, ids in no order."""
    ids = draw(st.lists(st.integers(0, 99), unique=True, max_size=14))
    return [
        Mail(
            Message(
                f"m{number}",
                f"t{draw(st.integers(0, 4))}",
                draw(_LABELS),
                7,
                START + timedelta(hours=draw(st.integers(0, 5))),
                headers=Headers(
                    from_=Address("", draw(st.sampled_from(("", *PEOPLE)))),
                    to=draw(_ADDRESSES),
                    cc=draw(_ADDRESSES),
                    bcc=draw(_ADDRESSES),
                ),
            ),
            hidden=draw(st.booleans()),
            unsigned=draw(st.booleans()),
        )
        for number in ids
    ]


_TIMES = st.integers(0, 6).map(lambda hours: (START + timedelta(hours=hours)).isoformat())
_ASKED = st.fixed_dictionaries(
    {},
    optional={
        "label": st.sampled_from(["INBOX", "UNREAD", "Label_1", "Label_2"]),
        "unread": st.sampled_from(["true", "false"]),
        "sender": st.sampled_from(PEOPLE),
        "to": st.sampled_from(PEOPLE),
        "after": _TIMES,
        "before": _TIMES,
        "fields": st.sampled_from(["id", "labelIds", "historyId"]),
    },
)
_BOUNDS = st.fixed_dictionaries(
    {
        "MAX_LOOKED_AT": st.sampled_from([1, 3, 500]),
        "CHUNK": st.integers(1, 4),
        "MAX_BYTES": st.sampled_from([1, 10**6]),
    }
)
_LIMITS = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@settings(max_examples=400)
@given(mails(), _ASKED, st.sampled_from([None, "t0", "t1"]), _LIMITS, _BOUNDS)
def test_messages_are_those_that_fit(
    mails: list[Mail], asked: dict[str, str], thread: str | None, limits: list[int], bounds: dict[str, int]
) -> None:
    """Any conditions, limits and bounds: all pages together are what looking at every message gives."""
    asked = asked if thread is None else {**asked, "thread": thread}
    mirror = Mirror(mails)
    with mirror.store, pytest.MonkeyPatch.context() as patch:
        for name, value in bounds.items():
            patch.setattr(finding, name, value)
        found = [each["id"] for each in mirror.all("messages", limits, **asked)]
        assert found == expected_messages(mirror, asked)


@settings(max_examples=400)
@given(mails(), _ASKED, _LIMITS, _BOUNDS)
def test_threads_are_those_that_fit(
    mails: list[Mail], asked: dict[str, str], limits: list[int], bounds: dict[str, int]
) -> None:
    """Any conditions, limits and bounds: all pages together are what looking at every thread gives."""
    mirror = Mirror(mails)
    with mirror.store, pytest.MonkeyPatch.context() as patch:
        for name, value in bounds.items():
            patch.setattr(finding, name, value)
        found = [each["id"] for each in mirror.all("threads", limits, **asked)]
        assert found == expected_threads(mirror, asked)


@settings(max_examples=100)
@given(mails(), _LIMITS, _BOUNDS)
def test_a_thread_has_its_messages(mails: list[Mail], limits: list[int], bounds: dict[str, int]) -> None:
    """All pages together are the messages of the thread, the oldest first."""
    mirror = Mirror(mails)
    with mirror.store, pytest.MonkeyPatch.context() as patch:
        for name, value in bounds.items():
            patch.setattr(finding, name, value)
        for name, document in mirror.threads.items():
            assert within(mirror, name, limits) == document["messageIds"]


def within(mirror: Mirror, thread: str, limits: Sequence[int]) -> list[str]:
    """The ids of a thread's messages over all pages."""
    found, token = list[str](), None
    for number in range(100):
        asked = {"limit": [str(limits[number % len(limits)])]} | ({} if token is None else {"pageToken": [token]})
        document, page = mirror.finding.thread(ADA, thread, read_ask("thread", asked))
        assert document == mirror.threads[thread]
        found += [each["id"] for each in page.documents]
        token = page.next
        if token is None:
            return found
    raise AssertionError("The pages do not end.")


def many(count: int, text: str = "") -> list[Mail]:
    """So many read messages of one sender, each in a thread of its own."""
    grace = Headers(from_=Address("", "grace@example.com"), to=(Address("", ADA),))
    return [
        Mail(Message(f"m{n}", f"t{n}", frozenset({"INBOX"}), 7, START + timedelta(n), headers=grace, body=Body(text)))
        for n in range(count)
    ]


@pytest.mark.parametrize(
    "asked", [{"unread": "true", "label": "INBOX"}, {"label": "INBOX", "sender": PEOPLE[0]}, {"unread": "true"}]
)
def test_a_search_in_vain_is_bounded(asked: dict[str, str]) -> None:
    """However many documents there are, one answer looks at 500; the next goes on behind them."""
    mirror = Mirror(many(520))
    with mirror.store:
        found = mirror.ask("messages", **asked)
        assert found.documents == []
        assert mirror.store.read <= 500


_FIRST: tuple[tuple[finding.Kind, str], ...] = (("messages", "m0"), ("threads", "t0"))


def test_a_search_that_finds_nothing_goes_on() -> None:
    """A page may be empty and have a next one, where what fits is older."""
    mails = many(520)
    mails[0] = replace(mails[0], message=replace(mails[0].message, label_ids=frozenset({"INBOX", "Label_1"})))
    mirror = Mirror(mails)
    with mirror.store:
        for kind, wanted in _FIRST:
            mirror.store.read, token, pages = 0, None, 0
            while not (page := mirror.ask(kind, token, label="Label_1", sender="grace@example.com")).documents:
                assert mirror.store.read <= 500 * (pages := pages + 1)
                token = page.next
                assert token is not None
            assert pages > 0
            assert [each["id"] for each in page.documents] == [wanted]


def test_large_documents_are_bounded() -> None:
    """An answer has no more than 8 MB, and one document."""
    mirror = Mirror(many(60, "x" * 200_000))
    with mirror.store:
        for page in (mirror.ask("messages", limit="100"), mirror.ask("messages", limit="100", unread="false")):
            assert len(page.documents) == 40
            assert page.next is not None
        assert len(mirror.ask("messages", limit="100", fields="id").documents) == 60


@pytest.mark.parametrize(
    "asked", [{}, {"label": "INBOX"}, {"sender": "grace@example.com"}, {"to": ADA}, {"thread": "t1"}]
)
def test_no_more_is_read_than_given(asked: dict[str, str]) -> None:
    """One condition is the store's: each document read is one that is given."""
    mirror = Mirror(many(80))
    with mirror.store:
        found = mirror.ask("messages", limit="30", **asked)
        assert mirror.store.read == len(found.documents) == (1 if "thread" in asked else 30)


def test_the_end_is_known() -> None:
    """A page that the last document ends has no next, and one of as many as asked for has."""
    mirror = Mirror(many(3))
    with mirror.store:
        assert mirror.ask("messages", limit="4").next is None
        assert mirror.ask("threads", limit="3").next is not None


def test_mail_that_arrives_between_pages_moves_nothing() -> None:
    """What is new comes before the first page, and is none of the next."""
    mails = many(10)
    mirror = Mirror(mails[:6])
    with mirror.store:
        first = mirror.ask("messages", limit="3")
        mirror.write(mails)
        second = mirror.ask("messages", first.next, limit="3")
        assert [each["id"] for each in first.documents + second.documents] == ["m5", "m4", "m3", "m2", "m1", "m0"]
