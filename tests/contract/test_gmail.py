"""The Gmail port over real HTTP: the client of `adapters/gmail` against the fake Gmail on loopback."""

import base64
import gc
import gzip
import json
import socket
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth.credentials
import google.auth.exceptions
import httplib2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.adapters import credentials
from mailmirror.adapters.gmail import arrival, transport, wire
from mailmirror.documents import to_document
from mailmirror.errors import (
    AccessRevoked,
    ApiDisabled,
    BlockedByDomain,
    ConsentMissing,
    CredentialsMissing,
    DelegationMissing,
    GmailError,
    GmailRejected,
    GmailUnavailable,
    HistoryExpired,
    NoSubject,
    PageTokenExpired,
    ScopeMissing,
    SigningDenied,
    Throttled,
)
from mailmirror.model import Address, Body, Failed, FetchedThread, Gone, Message, Quota
from mailmirror.ports import Gmail
from mailmirror.quota import PRICES

from tests.contract.gmail import (
    ALICE,
    PROFILE,
    TOPIC,
    WHOLE,
    Contents,
    Fake,
    Keeping,
    Script,
    Token,
    mail,
    messages_of,
    refusal,
)

# --- Every call of the port.


def test_profile(fake: Fake) -> None:
    """The profile tells address, head and totals, and costs one unit."""
    fake.deliver(3)
    client = fake.open()
    profile = client.profile()
    assert (profile.email_address, profile.messages_total, profile.threads_total) == (ALICE, 3, 3)
    assert profile.history_id == int(fake.alice.get_profile()["historyId"])
    assert client.spent == fake.units() == 1


def test_history_holds_every_kind_of_change(fake: Fake) -> None:
    """History comes back as records: messages added and deleted, labels put on and taken off, ids as integers."""
    fake.alice.split_chance = 0.0
    start = fake.open().profile().history_id
    kept, lost = fake.deliver(2)
    fake.alice.modify([kept], add=["STARRED"], remove=["UNREAD"])
    fake.alice.delete([lost])
    page = fake.open().history(start)
    assert [ref.id for record in page.records for ref in record.messages_added] == [kept, lost]
    assert [ref.id for record in page.records for ref in record.messages_deleted] == [lost]
    steps = [(step.message.id, step.label_ids) for record in page.records for step in record.labels_added]
    assert steps == [(kept, frozenset({"STARRED"}))]
    assert [step.label_ids for record in page.records for step in record.labels_removed] == [frozenset({"UNREAD"})]
    assert page.records[0].messages_added[0].label_ids == frozenset({"INBOX", "UNREAD"})
    assert start < page.records[0].id < page.records[-1].id <= page.history_id
    assert page.next_page_token is None


def test_history_without_changes(fake: Fake) -> None:
    """Nothing new is an answer without `history`, not a failure."""
    client = fake.open()
    head = client.profile().history_id
    page = client.history(head)
    assert (page.records, page.history_id, page.next_page_token) == ((), head, None)


def test_history_goes_on_where_a_page_ended(fake: Fake) -> None:
    """Pages of 500 records follow one another by their tokens, empty pages in between included."""
    start = fake.open().profile().history_id
    ids = fake.deliver(600)
    fake.alice.empty_page_chance = 1.0
    client = fake.open()
    seen: list[str] = []
    token: str | None = None
    while True:
        page = client.history(start, token)
        seen += [ref.id for record in page.records for ref in record.messages_added]
        token = page.next_page_token
        if token is None:
            break
    assert seen == ids


def test_message_listing(fake: Fake) -> None:
    """A listing of messages comes in pages of 500, newest first, with spam and trash only when asked for."""
    ids = fake.deliver(510)
    spam = fake.deliver(1, label_ids=["SPAM"])
    client = fake.open()
    first = client.list_messages(None, include_spam_trash=True)
    second = client.list_messages(first.next_page_token, include_spam_trash=True)
    assert len(first.refs) == 500
    assert second.next_page_token is None
    assert {message_id for message_id, _ in first.refs + second.refs} == {*ids, *spam}
    assert spam[0] not in dict(client.list_messages(None, include_spam_trash=False).refs)
    assert dict(client.list_messages(None, include_spam_trash=True, label_ids=("SPAM",)).refs).keys() == {*spam}
    assert client.list_messages(None, include_spam_trash=True, label_ids=("DRAFT",)).refs == ()


def test_thread_listing(fake: Fake) -> None:
    """A listing of threads gives each thread's newest history id, of those that have all of the labels asked for."""
    first = fake.alice.deliver(mail("Plan"))
    answer = fake.alice.deliver(mail("Re: Plan", reply_to="<Plan@example.org>"), label_ids=["STARRED", "UNREAD"])
    other = fake.alice.deliver(mail("Other"))
    client = fake.open()
    newest = (first, int(fake.alice.get_message(answer)["historyId"]))
    assert dict(client.list_threads(None, include_spam_trash=True).refs).keys() == {first, other}
    assert newest in client.list_threads(None, include_spam_trash=True).refs
    assert client.list_threads(None, include_spam_trash=True, label_ids=("STARRED", "UNREAD")).refs == (newest,)
    assert client.list_threads(None, include_spam_trash=True, label_ids=("STARRED", "INBOX")).refs == ()
    assert client.spent == fake.units() == 40


@pytest.mark.parametrize("microseconds", [0, 1, 500_000, 999_999])
def test_listings_since_a_time(fake: Fake, microseconds: int) -> None:
    """A listing since a time has every message and thread of that time or later, and none of a second or more before.

    The fake leaves out the whole second that `after:` names, as Gmail may.
    """
    since = datetime(2026, 1, 31, microsecond=microseconds, tzinfo=UTC)
    second = timedelta(seconds=1)
    before = fake.deliver(internal_date=since - 2 * second)
    at, later = fake.deliver(internal_date=since), fake.deliver(internal_date=since + second)
    client = fake.open()
    messages = dict(client.list_messages(None, include_spam_trash=True, since=since).refs)
    threads = dict(client.list_threads(None, include_spam_trash=True, since=since).refs)
    assert messages.keys() == threads.keys() == {*at, *later}
    tokyo = since.astimezone(timezone(timedelta(hours=9)))
    assert dict(client.list_messages(None, include_spam_trash=True, since=tokyo).refs) == messages
    everything = client.list_messages(None, include_spam_trash=True, since=datetime(1970, 1, 1, tzinfo=UTC)).refs
    assert dict(everything).keys() == {*before, *at, *later}
    starred = client.list_messages(None, include_spam_trash=True, since=since, label_ids=("STARRED",)).refs
    assert starred == ()


def test_message_in_full(fake: Fake) -> None:
    """A message comes with labels, dates, decoded headers, its text and the names of its attachments."""
    source = EmailMessage()
    source["From"] = "Jörg <joerg@example.org>"
    source["Subject"] = "Größe"
    source.set_content("Grüße")
    source.add_alternative("<b>Grüße</b>", subtype="html")
    source.add_attachment(b"12345", maintype="application", subtype="pdf", filename="Rechnung.pdf")
    when = datetime(2001, 2, 3, 4, 5, 6, 7000, tzinfo=UTC)
    (message_id,) = [fake.alice.deliver(source.as_bytes(), internal_date=when, label_ids=["INBOX", "STARRED"])]
    message = fake.open().messages([message_id], Keeping())[message_id]
    assert isinstance(message, Message)
    assert (message.id, message.thread_id, message.internal_date) == (message_id, message_id, when)
    assert message.label_ids == frozenset({"INBOX", "STARRED"})
    assert message.headers.from_ == Address("Jörg", "joerg@example.org")
    assert message.headers.subject == "Größe"
    assert (message.body.text.strip(), message.body.html.strip()) == ("Grüße", "<b>Grüße</b>")
    (attachment,) = message.attachments
    assert (attachment.filename, attachment.mime_type, attachment.size) == ("Rechnung.pdf", "application/pdf", 5)
    assert message.size_estimate == len(source.as_bytes())


def test_messages_without_bodies(fake: Fake) -> None:
    """Without bodies a message has labels, headers and snippet, and neither text nor attachments; nor has a thread."""
    source = EmailMessage()
    source["From"] = "Jörg <joerg@example.org>"
    source["Subject"] = "Größe"
    source.set_content("Beginning of the text. " * 50)
    source.add_attachment(b"12345", maintype="application", subtype="pdf", filename="Rechnung.pdf")
    message_id = fake.alice.deliver(source.as_bytes())
    client = fake.open()
    full = client.messages([message_id], Keeping())[message_id]
    message = client.messages([message_id], None)[message_id]
    assert isinstance(full, Message)
    assert isinstance(message, Message)
    assert message == replace(full, body=Body(stored="none"), attachments=())
    assert message.snippet.startswith("Beginning of the text.")
    assert message.headers.subject == "Größe"
    thread = client.threads([message_id], None)[message_id]
    assert isinstance(thread, FetchedThread)
    assert thread.messages == {message_id: message}
    assert client.spent == fake.units() == 80


def test_bodies_that_came_unasked() -> None:
    """Bodies that are not wanted are not asked for, and not kept when they come all the same."""
    answer = WHOLE | {"payload": {"mimeType": "text/plain", "body": {"data": "SGVsbG8="}}}
    with Script((200, {}, json.dumps(answer).encode())) as script:
        client = script.open()
        full, bare = client.messages(["1"], Keeping())["1"], client.messages(["1"], None)["1"]
        client.threads(["1"], None)
        client.thread_states(["1"])
    assert isinstance(full, Message)
    assert isinstance(bare, Message)
    assert (full.body, bare.body) == (Body(text="Hello"), Body(stored="none"))
    forms = [parse_qs(urlsplit(path).query)["format"] for _, path, _ in script.asked]
    assert forms == [["full"], ["metadata"], ["metadata"], ["minimal"]]


def test_message_without_labels(fake: Fake) -> None:
    """A message that is archived and read has no labels, and Gmail then sends no list."""
    (message_id,) = fake.deliver(label_ids=())
    message = fake.open().messages([message_id], None)[message_id]
    assert isinstance(message, Message)
    assert message.label_ids == frozenset()


def test_threads_in_full_and_minimal(fake: Fake) -> None:
    """A thread comes with all its messages in full, or with their labels only; one that is not there is gone."""
    first = fake.alice.deliver(mail("Plan"))
    fake.clock.advance(1)
    second = fake.alice.deliver(mail("Re: Plan", reply_to="<Plan@example.org>"), label_ids=["TRASH"])
    client = fake.open()
    full = client.threads([first, "dead"], Keeping())
    thread = full[first]
    assert isinstance(thread, FetchedThread)
    assert list(thread.messages) == [first, second]
    assert all(isinstance(message, Message) for message in thread.messages.values())
    assert isinstance(full["dead"], Gone)
    minimal = client.thread_states([first])[first]
    assert isinstance(minimal, FetchedThread)
    assert minimal.messages == {}
    assert [(state.id, state.label_ids) for state in minimal.states] == [
        (first, frozenset({"INBOX", "UNREAD"})),
        (second, frozenset({"TRASH"})),
    ]
    assert minimal.history_id == thread.history_id == minimal.states[-1].history_id


def test_labels(fake: Fake) -> None:
    """The label list tells ids, names and types."""
    fake.alice.create_label("Größe/klein")
    labels = {label.name: label for label in fake.open().labels()}
    assert labels["Größe/klein"].type == "user"
    assert labels["INBOX"].type == "system"


def test_watch_and_its_renewal(fake: Fake) -> None:
    """A watch lasts seven days from now, tells the head, and costs 100 units; its renewal is the same call."""
    client = fake.open(watch_label_ids=("INBOX",), watch_label_filter_behavior="EXCLUDE")
    watch = client.watch()
    assert watch.renewed_at == fake.clock.now()
    assert timedelta(days=7) - timedelta(seconds=1) <= watch.expires_at - fake.clock.now() <= timedelta(days=7)
    assert watch.history_id == client.profile().history_id
    active = fake.alice.active_watch()
    assert active is not None
    assert (active.topic, active.label_ids, active.behavior) == (TOPIC, ("INBOX",), "exclude")
    client.watch()
    assert fake.calls("users.stop") == 0
    assert client.spent == fake.units() == 201


def test_watch_held_by_another_topic(fake: Fake) -> None:
    """Only when another topic holds the watch it is stopped, and then taken once."""
    fake.open(topic="projects/mirror/topics/another").watch()
    client = fake.open()
    client.watch()
    active = fake.alice.active_watch()
    assert active is not None
    assert active.topic == TOPIC
    assert (fake.calls("users.stop"), client.spent) == (1, 250)


def test_stop(fake: Fake) -> None:
    """A stop ends the watch and costs 50 units; without a watch it is no failure."""
    client = fake.open()
    client.watch()
    client.stop()
    assert fake.alice.active_watch() is None
    client.stop()
    assert client.spent == fake.units() == 200


def test_forgetting(fake: Fake) -> None:
    """What is kept for a mailbox alone is deleted by whoever keeps it; where nothing is kept that is nothing."""
    assert fake.accounts().forget(ALICE) == 0
    kept = {ALICE: 2}
    accounts = fake.accounts(forgets=kept.pop)
    assert (accounts.forget(ALICE), kept) == (2, {})


def test_wrong_topic(fake: Fake) -> None:
    """A topic Gmail does not accept is a configuration error that repeats Gmail's words, and stops nothing."""
    with pytest.raises(GmailRejected, match="Invalid topicName"):
        fake.open(topic="nonsense").watch()
    assert fake.calls("users.stop") == 0


# --- Batches.


def test_every_id_of_a_batch_is_answered(fake: Fake) -> None:
    """Of 60 ids some are refused, some fail and some are gone: each gets its result, and each call is paid for once."""
    ids = fake.deliver(60)
    fake.faults("users.messages.get", "429", "500", "403", "503", "429:concurrent", "429", "502")
    fake.faults("users.messages.get", {"id": ids[30], "status": 404, "times": -1})
    wanted = [*ids, "dead"]
    client = fake.open()
    found = client.messages(wanted, None)
    assert list(found) == wanted
    assert sorted(messages_of(found, Message)) == sorted(set(ids) - {ids[30]})
    assert messages_of(found, Gone) == [ids[30], "dead"]
    assert client.spent == fake.units() == 20 * fake.calls("users.messages.get") == 20 * 68
    assert client.rejected == 4


def test_batches_are_what_the_budget_pays_for(fake: Fake) -> None:
    """No more calls are made at a time than the budget gives at once."""
    ids = fake.deliver(60)
    for units_per_minute, crowd in ((1_000_000, 60), (6_000, 5)):
        fake.world.quota.concurrent = crowd
        client = fake.open(units_per_minute=units_per_minute)
        assert len(messages_of(client.messages(ids, None), Message)) == 60
        assert (client.rejected, fake.account()["totalRejected"]) == (0, 0)


def test_batches_shrink_and_grow(fake: Fake) -> None:
    """Refusals halve the calls under way until Gmail takes them, and nothing is lost on the way; then they grow."""
    ids = fake.deliver(100)
    fake.world.quota.concurrent = 8
    client = fake.open(units_per_minute=1_000_000, lanes=1)
    assert len(messages_of(client.messages(ids, None), Message)) == 100
    # 25 calls, then 12, then 6 and slowly more.
    assert client.rejected == fake.account()["totalRejected"] == 17 + 4
    fake.world.quota.concurrent = None
    before = client.rejected
    assert len(messages_of(client.messages(ids, None), Message)) == 100
    assert client.rejected == before


def test_ids_asked_twice_are_fetched_once(fake: Fake) -> None:
    """The same id twice is one call and one result; no ids are no call."""
    (message_id,) = fake.deliver()
    client = fake.open()
    assert list(client.messages([message_id, message_id], None)) == [message_id]
    assert client.messages([], None) == {}
    assert (client.spent, fake.calls("users.messages.get")) == (20, 1)


def test_poison_does_not_spoil_the_others(fake: Fake) -> None:
    """A message that Gmail never answers fails with a sentence while all the others are brought."""
    ids = fake.deliver(20)
    fake.faults("users.messages.get", {"id": ids[7], "status": 500, "times": -1})
    fake.faults("users.messages.get", {"id": ids[8], "status": "timeout:30", "times": -1})
    client = fake.open()
    found = client.messages(ids, None)
    assert messages_of(found, Failed) == [ids[7], ids[8]]
    assert len(messages_of(found, Message)) == 18
    failed = found[ids[7]]
    assert isinstance(failed, Failed)
    assert "500" in failed.reason
    assert "Subject" not in failed.reason


def test_poison_first(fake: Fake) -> None:
    """Messages that never come do not block a mailbox by coming first, and do not cost the lease."""
    ids = fake.deliver(30)
    for poison in ids[:2]:
        fake.faults("users.messages.get", {"id": poison, "status": "timeout:30", "times": -1})
    began = fake.clock.now()
    found = fake.open().messages(ids, None)
    assert messages_of(found, Failed) == ids[:2]
    assert len(messages_of(found, Message)) == 28
    assert fake.clock.now() - began < timedelta(seconds=120)


def test_poison_alone(fake: Fake) -> None:
    """A message that never comes is told from a Gmail that never answers by a call that any mailbox answers."""
    (poison,) = fake.deliver()
    fake.faults("users.messages.get", {"id": poison, "status": 500, "times": -1})
    client = fake.open()
    assert isinstance(client.messages([poison], None)[poison], Failed)
    assert (fake.calls("users.messages.get"), fake.calls("users.getProfile")) == (4, 1)
    fake.faults("users.getProfile", "503")
    with pytest.raises(GmailUnavailable):
        client.messages([poison], None)


def test_gmail_out_of_order(fake: Fake) -> None:
    """When no message comes at all that is Gmail's trouble, not the messages', and it is found out within a minute."""
    ids = fake.deliver(30)
    fake.faults("users.messages.get", *["503"] * 200)
    began = fake.clock.now()
    client = fake.open()
    with pytest.raises(GmailUnavailable, match="503"):
        client.messages(ids, None)
    assert fake.clock.now() - began < timedelta(minutes=1)
    assert client.spent == fake.units()


def test_no_answer_at_all(fake: Fake) -> None:
    """When Gmail does not answer within the time-out, a call gives up before a lease could run out."""
    ids = fake.deliver(10)
    fake.faults("users.messages.get", *["timeout:30"] * 100)
    fake.faults("users.getProfile", *["timeout:30"] * 100)
    began = fake.clock.now()
    with pytest.raises(GmailUnavailable):
        fake.open().messages(ids, None)
    assert fake.clock.now() - began < timedelta(seconds=120)


@pytest.mark.parametrize(("units_per_minute", "answered"), [(6_000, 5), (6_000, 7), (1_000_000, 20)])
@pytest.mark.parametrize("fault", ["503", "timeout:30"])
def test_gmail_falls_silent(fake: Fake, fault: str, units_per_minute: int, answered: int) -> None:
    """When Gmail answers a while and then nothing that is its trouble, not the messages', and it is found out in time.

    A lease lasts 120 seconds.
    """
    ids = fake.deliver(100)
    for item_id in ids[answered:]:
        fake.faults("users.messages.get", {"id": item_id, "status": fault, "times": -1})
    fake.faults("users.getProfile", *[fault] * 10)
    began = fake.clock.now()
    with pytest.raises(GmailUnavailable):
        fake.open(units_per_minute=units_per_minute, lanes=1).messages(ids, None)
    assert fake.clock.now() - began < timedelta(seconds=120)


def test_gets_fall_silent(fake: Fake) -> None:
    """When Gmail goes on to answer other calls but no message, no message is blamed for it."""
    ids = fake.deliver(30)
    for item_id in ids[5:]:
        fake.faults("users.messages.get", {"id": item_id, "status": "503", "times": -1})
    with pytest.raises(GmailUnavailable, match="503"):
        fake.open().messages(ids, None)
    assert fake.calls("users.getProfile") == 1


def test_poison_after_others(fake: Fake) -> None:
    """Before a message is blamed Gmail is asked whether it answers other calls, whatever it answered before."""
    ids = fake.deliver(10)
    fake.faults("users.messages.get", {"id": ids[7], "status": 500, "times": -1})
    assert messages_of(fake.open().messages(ids, None), Failed) == [ids[7]]
    assert fake.calls("users.getProfile") == 1
    fake.faults("users.getProfile", "503")
    with pytest.raises(GmailUnavailable, match="getProfile"):
        fake.open().messages(ids, None)


def test_messages_that_never_come_among_others(fake: Fake) -> None:
    """Many messages that never come among others that do are tried one by one no longer than a lease lasts."""
    ids = fake.deliver(24)
    for item_id in ids[1::2]:
        fake.faults("users.messages.get", {"id": item_id, "status": "timeout:30", "times": -1})
    began = fake.clock.now()
    # The second lane has all that never come.
    found = fake.open(units_per_minute=1_000_000, lanes=2).messages(ids, None)
    assert messages_of(found, Message) == ids[::2]
    assert messages_of(found, Failed) == ids[1::2]
    assert fake.clock.now() - began < timedelta(seconds=120)


@pytest.mark.parametrize("fault", ["reset", "reset-after"])
def test_connection_lost(fake: Fake, fault: str) -> None:
    """A connection that breaks before or after the work is done costs another call, never a message."""
    ids = fake.deliver(12)
    fake.faults("users.messages.get", "503", fault, fault)
    fake.faults("users.getProfile", fault, fault)
    client = fake.open()
    assert len(messages_of(client.messages(ids, None), Message)) == 12
    assert client.profile().messages_total == 12
    # Nothing is sent without having been paid for, not even by httplib2; of a broken batch more is paid than counted.
    assert client.spent >= fake.units()
    assert fake.calls("users.getProfile") == 3


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_connection_dropped_while_idle(fake: Fake, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A connection that was dropped while nobody used it costs one call that fails, alone or in a batch, not two."""
    ids = fake.deliver(count)
    connections: list[socket.socket] = []
    accept = fake._server.get_request

    def get_request() -> Any:
        connection, address = accept()
        connections.append(connection)
        return connection, address

    monkeypatch.setattr(fake._server, "get_request", get_request)
    client = fake.open()
    client.messages(ids, None)
    for connection in connections:
        connection.shutdown(socket.SHUT_RDWR)
    before = client.spent
    assert messages_of(client.messages(ids, None), Message) == ids
    assert client.spent - before == 2 * 20 * count
    assert messages_of(client.messages(ids, None), Message) == ids
    assert client.spent - before == 3 * 20 * count


def test_a_real_time_out(fake: Fake) -> None:
    """A server that accepts and then says nothing is an unanswered call after the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        root = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        client = fake.open(api_root=root, timeout=0.05)
        with pytest.raises(GmailUnavailable, match="did not answer"):
            client.profile()
        with pytest.raises(GmailUnavailable):
            client.messages(["1", "2"], None)
    with pytest.raises(GmailUnavailable):
        fake.open(api_root=root).profile()
    assert client.spent == 4 * 1 + 2 * 20 + 3 * 20 + 1


# --- Quota.


def test_the_real_quota_is_never_exceeded(fake: Fake) -> None:
    """By Gmail's count of a sliding minute, ten minutes of fetching meet no refusal and use 97 % of the quota."""
    fake.world.quota.units_per_minute = 6000
    ids = fake.deliver(300)
    client = fake.open()
    began = fake.clock.now()
    while fake.clock.now() - began < timedelta(minutes=10):
        client.messages(ids[:40], None)
        with client.sparing():
            client.messages(ids[:40], None)
    assert (client.rejected, fake.account()["totalRejected"]) == (0, 0)
    assert client.spent / ((fake.clock.now() - began).total_seconds() / 60) >= 0.97 * 6000


def test_somebody_else_spends_too(fake: Fake) -> None:
    """When the quota is used up from elsewhere, refusals slow the client down, and then it is throttled, by name."""
    ids = fake.deliver(30)
    fake.world.quota.units_per_minute = 100
    client = fake.open()
    with pytest.raises(Throttled) as caught:
        client.messages(ids, None)
    assert caught.value.until is None
    assert client.rejected == fake.account()["totalRejected"] > 0
    assert client.quota.units < 20


def test_gmail_names_the_time(fake: Fake) -> None:
    """A time in the text of a refusal is heeded at once, without another call and without waiting."""
    ids = fake.deliver(8)
    fake.faults("users.messages.get", "retry-after:900")
    client = fake.open(units_per_minute=100_000)
    with pytest.raises(Throttled) as caught:
        client.messages(ids, None)
    until = caught.value.until
    assert until is not None
    assert abs(until - fake.clock.now() - timedelta(seconds=900)) < timedelta(seconds=1)
    assert fake.calls("users.messages.get") == 8
    fake.faults("users.history.list", "retry-after:600")
    with pytest.raises(Throttled) as caught:
        client.history(client.profile().history_id)
    assert caught.value.until is not None
    assert sum(fake.clock.slept) < 0.1


def test_a_named_time_far_away_is_not_believed(fake: Fake) -> None:
    """Gmail's time can be wrong: more than a day is a day."""
    fake.faults("users.getProfile", "retry-after:900000")
    with pytest.raises(Throttled) as caught:
        fake.open().profile()
    assert caught.value.until == fake.clock.now() + timedelta(days=1)


def test_daily_limit(fake: Fake) -> None:
    """An owner's daily limit is throttling with a time, not something to try again."""
    fake.faults("users.getProfile", "403:dailyLimitExceeded")
    client = fake.open()
    with pytest.raises(Throttled) as caught:
        client.profile()
    assert caught.value.until == fake.clock.now() + timedelta(hours=1)
    assert (client.spent, client.rejected) == (1, 1)


def test_the_budget_resumes(fake: Fake) -> None:
    """The budget goes on from the level that was stored, and without enough of it no call is made."""
    fake.deliver(1)
    empty = Quota(-2000.0, fake.clock.now())
    client = fake.open(empty)
    assert client.affordable(0) == 0
    with pytest.raises(Throttled) as caught:
        client.profile()
    assert caught.value.until is not None
    assert caught.value.until > fake.clock.now()
    assert (client.spent, fake.units(), client.rejected) == (0, 0, 0)
    assert client.quota.units == -2000.0


def test_the_day_resumes(fake: Fake) -> None:
    """The day's units go on from those that were stored, and what is left of them bounds runs alone."""
    ids = fake.deliver(10)
    client = fake.open(Quota(105.0, fake.clock.now(), 9_900), units_per_day=10_000)
    assert client.day_left == 100
    with client.sparing():
        assert client.affordable(60) == 100
        client.messages(ids[:5], None)
    assert (client.day_left, client.quota.today) == (0, 10_000)
    assert len(messages_of(client.messages(ids, None), Message)) == 10
    assert (client.day_left, client.quota.today) == (0, 10_200)
    assert fake.open().day_left is None


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("users.getProfile", lambda client: client.profile()),
        ("users.labels.list", lambda client: client.labels()),
        ("users.messages.list", lambda client: client.list_messages(None, include_spam_trash=True)),
        ("users.threads.list", lambda client: client.list_threads(None, include_spam_trash=True)),
        ("users.history.list", lambda client: client.history(client.profile().history_id)),
        ("users.watch", lambda client: client.watch()),
        ("users.stop", lambda client: client.stop()),
    ],
)
def test_what_passes_is_tried_again(fake: Fake, method: str, call: Callable[[Gmail], object]) -> None:
    """A call that meets quota, 5xx and a lost connection in turn succeeds, four payments later."""
    fake.faults(method, "429", "503", "reset")
    client = fake.open()
    call(client)
    extra = 1 if method == "users.history.list" else 0
    assert client.spent == fake.units() == 4 * PRICES["2026"][method] + extra
    assert client.rejected == 1
    assert 1 + 2 + 4 - 2 <= sum(fake.clock.slept) <= (1 + 2 + 4) * 1.25 + 10


# --- Errors by name.


def test_404_of_history_is_not_404_of_a_message(fake: Fake) -> None:
    """One body, two names: a cursor too old is HistoryExpired, a message that is not there is Gone."""
    start = fake.open().profile().history_id
    (message_id,) = fake.deliver()
    fake.alice.delete([message_id])
    fake.alice.expire_history()
    client = fake.open()
    with pytest.raises(HistoryExpired):
        client.history(start)
    assert isinstance(client.messages([message_id], None)[message_id], Gone)


@pytest.mark.parametrize("start", [0, 1])
def test_a_cursor_that_never_was(fake: Fake, start: int) -> None:
    """A cursor Gmail calls invalid is mended by a run, like one that is too old."""
    with pytest.raises(HistoryExpired):
        fake.open().history(start)


def test_page_tokens_expire(fake: Fake) -> None:
    """A page token that no longer holds has a name of its own, on every listing."""
    start = fake.open().profile().history_id
    fake.deliver(501)
    client = fake.open()
    history = client.history(start).next_page_token
    messages = client.list_messages(None, include_spam_trash=True).next_page_token
    threads = client.list_threads(None, include_spam_trash=True).next_page_token
    assert history
    assert messages
    assert threads
    fake.alice.expire_page_tokens()
    with pytest.raises(PageTokenExpired):
        client.history(start, history)
    with pytest.raises(PageTokenExpired):
        client.list_messages(messages, include_spam_trash=True)
    with pytest.raises(PageTokenExpired):
        client.list_threads(threads, include_spam_trash=True)
    assert not isinstance(PageTokenExpired("x"), HistoryExpired)


def test_access_taken_back(fake: Fake) -> None:
    """401 is AccessRevoked from every call, from batches too."""
    ids = fake.deliver(5)
    fake.world.revoke(fake.alice)
    client = fake.open()
    calls: list[Callable[[], object]] = [
        client.profile,
        client.labels,
        client.watch,
        lambda: client.history(1),
        lambda: client.messages(ids, None),
        lambda: client.messages(ids[:1], None),
        lambda: client.threads(ids, None),
    ]
    for call in calls:
        with pytest.raises(AccessRevoked, match="401"):
            call()


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("403:domainPolicy", BlockedByDomain),
        ("403:insufficientPermissions", ScopeMissing),
        ("403:accessNotConfigured", ApiDisabled),
        ("400:failedPrecondition", NoSubject),
        ("400", GmailRejected),
        ("404", GmailRejected),
        ("501", GmailUnavailable),
    ],
)
def test_refusals_by_reason(fake: Fake, fault: str, name: type[GmailError]) -> None:
    """Each way to refuse a call has one name."""
    fake.faults("users.labels.list", *[fault] * 4)
    with pytest.raises(name) as caught:
        fake.open().labels()
    assert type(caught.value) is name


def test_no_mailbox_under_this_address(fake: Fake) -> None:
    """An address without a mailbox is access that is not there."""
    with pytest.raises(AccessRevoked, match="Mail service not enabled"):
        fake.accounts().open("nobody@example.com", None).profile()


def test_an_address_in_any_script(fake: Fake) -> None:
    """An address of letters that no header can have is one without a mailbox, too."""
    with pytest.raises(AccessRevoked, match="Mail service not enabled"):
        fake.accounts().open("阿达@example.com", None).profile()


def test_scopes_missing_for_messages(fake: Fake) -> None:
    """A scope that is missing concerns the mailbox: no message fails for it."""
    ids = fake.deliver(3)
    fake.faults("users.messages.get", "403:insufficientPermissions")
    with pytest.raises(GmailRejected):
        fake.open().messages(ids, None)


def test_an_id_that_gmail_refuses(fake: Fake) -> None:
    """An id that Gmail calls invalid fails alone."""
    (message_id,) = fake.deliver()
    fake.faults("users.messages.get", {"id": "odd id/ü", "status": "400:invalidArgument", "times": -1})
    found = fake.open().messages(["odd id/ü", message_id], None)
    assert isinstance(found["odd id/ü"], Failed)
    assert isinstance(found[message_id], Message)


# --- Ugly answers.


@pytest.mark.parametrize(
    "answer",
    [
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        json.dumps(WHOLE | {"id": "2"}).encode(),
        json.dumps(WHOLE | {"historyId": None}).encode(),
        json.dumps(WHOLE | {"historyId": str(2**64)}).encode(),
        json.dumps(WHOLE | {"labelIds": [None]}).encode(),
        json.dumps(WHOLE | {"internalDate": "yesterday"}).encode(),
        json.dumps({key: value for key, value in WHOLE.items() if key != "threadId"}).encode(),
    ],
    ids=range(12),
)
def test_an_answer_that_cannot_be_read(answer: bytes) -> None:
    """A message whose answer makes no sense fails with a sentence and raises nothing; any other call names it."""
    with Script((200, {}, answer)) as script:
        client = script.open()
        assert isinstance(client.messages(["1"], None)["1"], Failed)
        with pytest.raises(GmailUnavailable, match="cannot be read"):
            client.profile()


def test_a_large_message_of_equal_lines() -> None:
    """What Gmail packs a thousand to one is read; what unpacks to more than any message has is no answer."""
    text = base64.urlsafe_b64encode(b"a" * 12 * 2**20).decode()
    answer = WHOLE | {"payload": {"mimeType": "text/plain", "body": {"data": text}}}
    with Script((200, {"Content-Encoding": "gzip"}, gzip.compress(json.dumps(answer).encode()))) as script:
        message = script.open().messages(["1"], Keeping())["1"]
    assert isinstance(message, Message)
    assert message.body.text == "a" * 12 * 2**20
    # The largest message that Gmail stores, in base64.
    assert arrival.LARGEST_ANSWER > 150 * 2**20 * 4 / 3


def test_an_answer_that_unpacks_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb is a call that was not answered, and spoils no call after it."""
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 2**20)
    bomb = gzip.compress(b" " * 2**20 + PROFILE[2])
    with Script((200, {"Content-Encoding": "gzip"}, bomb), PROFILE) as script:
        client = script.open()
        assert client.profile().history_id == 7
        assert (client.spent, len(script.asked)) == (2, 2)


REFUSED = [
    b'{"error": {"message": 5}}',
    b'{"error": {"message": {"a": 1}}}',
    b'{"error": {"message": null}}',
    b'{"error": {"errors": []}}',
    b'{"error": {"errors": [5]}}',
    b'{"error": "no"}',
    b'{"error": 5}',
    b'[{"error": {"errors": []}}]',
    b"[]",
    b"5",
    b"\xff",
    b"[" * 100_000,
    b'{"error": {"message": ' + b"[" * 100_000,
    b'{"error": {"message": "x", "details": ' + b"[" * 900 + b"]" * 900 + b"}}",
]


@pytest.mark.parametrize("status", [302, 400, 403, 404, 500, 503])
@pytest.mark.parametrize("body", REFUSED, ids=range(len(REFUSED)))
def test_a_refusal_that_cannot_be_read(body: bytes, status: int) -> None:
    """Of a refusal whose content makes no sense the status is heeded: alone, in a batch and of a batch."""
    part = b"Content-Type: application/http\r\nContent-ID: <response-%d@mailmirror>\r\n\r\nHTTP/1.1 %d X\r\n\r\n"
    parts = b"".join(b"--b\r\n" + part % (number, status) + body + b"\r\n" for number in (0, 1)) + b"--b--\r\n"
    name = GmailUnavailable if status >= 500 else GmailRejected
    with Script((status, {}, body)) as script, pytest.raises(name, match=str(status)):
        script.open().profile()
    for batch in ((status, {}, body), (200, {"Content-Type": "multipart/mixed; boundary=b"}, parts)):
        with Script(batch, (status, {}, body)) as script:
            client = script.open()
            if status in {302, 400, 404}:
                assert set(client.messages(["1", "2"], None)) == {"1", "2"}
            else:
                with pytest.raises(GmailError, match=str(status)):
                    client.messages(["1", "2"], None)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1", "\ud800", "9" * 5_000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(WHOLE)), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*WHOLE, "labelIds", "sizeEstimate", "snippet"]), JUNK) | JUNK)
def test_any_json_is_a_message_or_a_failure(junk: Any) -> None:
    """Whatever JSON comes instead of a message, it is read or it fails with a sentence."""
    answer = WHOLE | junk if isinstance(junk, dict) else junk
    try:
        found = wire.finish_message(wire.parse_message(answer), Keeping(), nothing)
    except wire.UNREADABLE:
        return
    json.dumps(to_document(found), default=str, ensure_ascii=False).encode()


@given(st.dictionaries(st.sampled_from(["id", "historyId", "messages"]), JUNK | st.lists(JUNK | st.just(WHOLE))) | JUNK)
def test_any_json_is_a_thread_or_a_failure(junk: Any) -> None:
    """Whatever JSON comes instead of a thread, it is read, message by message, or it fails with a sentence."""
    answer = {"id": "1", "historyId": "5"} | junk if isinstance(junk, dict) else junk
    try:
        found = wire.finish_thread(wire.parse_thread(answer), None, nothing)
    except wire.UNREADABLE:
        return
    assert all(isinstance(message, Message | Failed) for message in found.messages.values())


def nothing(_message: str, _attachment: str) -> None:
    """Gmail has nothing."""


def test_what_is_lost_of_what_is_wanted() -> None:
    """Of a message without body `truncated` names nothing but what is left of it; a snippet may be cut, too."""
    read = wire.parse_message(WHOLE | {"snippet": "x" * 3_000})
    assert read.message.truncated == ("snippet",)
    lost = replace(read.message, truncated=("attachments", "body.html", "headers.to", "snippet"))
    message = wire.finish_message(replace(read, message=lost), None, nothing)
    assert isinstance(message, Message)
    assert message.truncated == ("headers.to", "snippet")


@pytest.mark.parametrize("date", ["-99999999999999999", "99999999999999999999", "-1", None])
def test_dates_beyond_the_calendar(date: str | None) -> None:
    """A date that no calendar has does not lose the message."""
    message = {key: value for key, value in (WHOLE | {"internalDate": date}).items() if value is not None}
    parsed = wire.parse_message(message)
    assert parsed.message.internal_date.tzinfo is UTC


@pytest.mark.parametrize(
    "batch",
    [
        (200, {}, b"no batch"),
        (200, {"Content-Type": "multipart/mixed; boundary=b"}, b"--b\r\n\r\nx\r\n--b--\r\n"),
        (200, {"Content-Type": "multipart/mixed; boundary=b"}, b""),
        (200, {"Content-Type": "multipart/mixed; boundary=b"}, b"--b\r\nContent-ID: <a + 0>\r\n\r\n\xff\r\n--b--\r\n"),
        (
            200,
            {"Content-Type": "multipart/mixed; boundary=b"},
            b"--b\r\nContent-ID: <response-7@x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}\r\n--b--\r\n",
        ),
        (500, {}, b"<html>"),
        (503, {}, b""),
        (302, {"Location": "http://127.0.0.1:9/elsewhere"}, b""),
        (400, {}, b"<html>"),
        (401, {"WWW-Authenticate": "Bearer"}, b""),
        (403, {}, b"<html>"),
        (403, {}, b'{"error": {"message": "x", "errors": [{"reason": "domainPolicy"}]}}'),
        (404, {}, b"<html>"),
        (405, {}, b"<html>"),
        (413, {}, b"[" * 100_000),
        (500, {}, b'{"error": {"message": 5}}'),
    ],
    ids=range(16),
)
def test_a_batch_that_cannot_be_read(batch: tuple[int, Mapping[str, str], bytes]) -> None:
    """When the answer to a batch is mangled or refused as a whole, each id is asked for alone."""
    one, two = (json.dumps(WHOLE | {"id": number}).encode() for number in "12")
    with Script(batch, (200, {}, one), (200, {}, two)) as script:
        client = script.open()
        assert messages_of(client.messages(["1", "2"], None), Message) == ["1", "2"]
        assert client.spent == 4 * 20
        assert [path.split("?")[0].rpartition("/")[2] for _, path, _ in script.asked] == ["batch", "1", "2"]


@pytest.mark.parametrize("status", [403, 429])
def test_a_batch_that_is_refused_for_quota(status: int) -> None:
    """A batch that is refused as a whole is one refusal, and a time that it names is heeded without another call."""
    said = "User-rate limit exceeded.  Retry after 2026-11-20T12:15:00.000Z"
    with Script(refusal(status, said, "userRateLimitExceeded")) as script:
        client = script.open()
        with pytest.raises(Throttled) as caught:
            client.messages(["1", "2"], None)
    assert caught.value.until == datetime(2026, 11, 20, 12, 15, tzinfo=UTC)
    assert (client.spent, client.rejected, len(script.asked)) == (40, 1, 1)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120), ("Fri, 20 Nov 2026 12:03:00 GMT", 180), ("0", None), ("soon", None)]
    + [(f"Fri, 20 Nov {year} 12:03:00 +0000", None) for year in ("99999", "9" * 20, "9" * 5_000)]
    + [("9" * 5_000, None), ("9" * 20, 86_400), ("Fri, 31 Dec 9999 23:59:59 -2359", 86_400)],
)
def test_retry_after_header(header: str, seconds: int | None) -> None:
    """A Retry-After header is heeded as the text is; one without a time to come is none."""
    with Script((429, {"Retry-After": header}, b"{}"), PROFILE) as script:
        client = script.open()
        if seconds is None:
            assert client.profile().history_id == 7
        else:
            with pytest.raises(Throttled) as caught:
                client.profile()
            assert caught.value.until == script.clock.now() + timedelta(seconds=seconds)


def test_messages_of_errors_keep_secrets() -> None:
    """Tokens and other people's addresses do not get into an error; the mailbox's own address may."""
    said = "Delegation denied for robot@project.iam.example using ya29.secret on alice@example.com."
    with Script(refusal(403, said)) as script, pytest.raises(AccessRevoked) as caught:
        script.open().profile()
    assert "robot@" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "Delegation denied" in str(caught.value)
    assert ALICE in str(caught.value)


def test_publishing_not_allowed() -> None:
    """A topic on which Gmail may not publish is a configuration error that repeats Gmail's words."""
    said = f"Error sending test message to Cloud PubSub {TOPIC} : User not authorized to perform this action."
    with Script(refusal(403, said)) as script, pytest.raises(GmailRejected, match="not authorized"):
        script.open().watch()


def test_redirections_are_not_followed() -> None:
    """A redirection is refused: a token goes nowhere but to Gmail."""
    elsewhere = {"Location": "http://127.0.0.1:9/elsewhere"}
    with Script((302, elsewhere, b"")) as script, pytest.raises(GmailRejected, match="302"):
        script.open().profile()


# --- Credentials.


def _iam(code: int) -> str:
    return json.dumps({"error": {"code": code, "message": "x", "status": "PERMISSION_DENIED"}})


def _refresh_error(*args: object, retryable: bool = False) -> Exception:
    return google.auth.exceptions.RefreshError(*args, retryable=retryable)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (_refresh_error("invalid_grant: Token has been expired or revoked.", {}), ConsentMissing),
        (
            _refresh_error("unauthorized_client: Client is unauthorized to retrieve access tokens", {}),
            DelegationMissing,
        ),
        (_refresh_error("access_denied: Account restricted", {}), BlockedByDomain),
        (_refresh_error("Unable to acquire impersonated credentials", _iam(403)), SigningDenied),
        (_refresh_error("Unable to acquire impersonated credentials", _iam(503)), GmailUnavailable),
        (_refresh_error("internal_failure: try again", {}, retryable=True), GmailUnavailable),
        (_refresh_error("Failed to retrieve http://metadata.google.internal/"), GmailUnavailable),
        (google.auth.exceptions.TransportError("reset"), GmailUnavailable),
        (google.auth.exceptions.DefaultCredentialsError("none"), CredentialsMissing),
    ],
)
def test_no_token(error: Exception, name: type[GmailError]) -> None:
    """What goes wrong on the way to a token is told apart: withdrawn, misconfigured, or only for the moment."""
    with Script(PROFILE) as script:
        client = script.open(lambda _: Token(error))
        for call in (client.profile, lambda: client.messages(["1", "2"], None)):
            with pytest.raises(name) as caught:
                call()
            assert type(caught.value) is name


def test_a_stale_token_is_renewed_once() -> None:
    """A token that Gmail refuses is renewed and the call made again; only then access counts as revoked."""
    with Script(refusal(401, "Invalid Credentials"), PROFILE) as script:
        client = script.open(lambda _: Token("old", "new"))
        assert client.profile().history_id == 7
        assert client.spent == 2
        assert [headers["authorization"] for _, _, headers in script.asked] == ["Bearer old", "Bearer new"]
    with Script(refusal(401, "Invalid Credentials")) as script, pytest.raises(AccessRevoked):
        script.open(lambda _: Token("bad")).profile()


@pytest.mark.parametrize("challenge", ["Bearer", "Bearer realm=", "=", ",", 'Bearer realm="a", error="invalid_token"'])
def test_a_stale_token_whatever_401_says(challenge: str) -> None:
    """401 is 401 whatever the header says that comes with it: the token is renewed."""
    refused = (401, {"WWW-Authenticate": challenge}, b"")
    with Script(refused, PROFILE) as script:
        client = script.open(lambda _: Token("old", "new"))
        assert client.profile().history_id == 7
        assert client.spent == 2
        assert [headers["authorization"] for _, _, headers in script.asked] == ["Bearer old", "Bearer new"]


def test_a_stale_token_within_a_batch(fake: Fake) -> None:
    """401 inside a batch is asked again alone, where the token is renewed."""
    ids = fake.deliver(3)
    fake.faults("users.messages.get", "401", "401", "401", "401")
    found = fake.open(credentials=lambda _: Token("old", "new")).messages(ids, None)
    assert messages_of(found, Message) == ids


def test_credentials_go_with_single_calls_and_batches() -> None:
    """The credentials made for the mailbox authorize single calls and batches, and nothing else does."""
    made: list[str] = []

    def found(mailbox: str) -> Token:
        made.append(mailbox)
        return Token(f"token-of-{mailbox}")

    one = json.dumps(WHOLE).encode()
    with Script((200, {}, b"no batch"), (200, {}, one), (200, {}, one)) as script:
        script.open(found).messages(["1", "2"], None)
    assert made == [ALICE]
    assert {headers["authorization"] for _, _, headers in script.asked} == {f"Bearer token-of-{ALICE}"}


class GoogleAuth:
    """The three endpoints on the way to a delegated token, as the transport that credentials refresh through."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def __call__(self, url: str, method: str = "GET", body: bytes = b"", **_: object) -> Any:
        self.asked.append((url, body))
        answer = {"access_token": f"token{len(self.asked)}", "expires_in": 3600, "signedJwt": "signed"}
        return SimpleNamespace(status=200, headers={}, data=json.dumps(answer).encode())


def test_delegation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delegation signs as the delegate, without a key, for the mailbox's user and the scopes granted; it is kept."""
    scopes = ["https://www.googleapis.com/auth/gmail.readonly"]
    delegated = credentials.for_mailbox("delegation", "mirror@project.iam.gserviceaccount.com", scopes)
    # Not before the first mailbox is opened does anybody look for the machine's own credentials.
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(google.auth.exceptions.DefaultCredentialsError):
        delegated(ALICE)
    own = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "adc.json").write_text(json.dumps(own))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    found = delegated(ALICE)
    assert found is not None
    google_auth = GoogleAuth()
    found.refresh(google_auth)
    (own_url, _), (sign_url, sign), (token_url, _) = google_auth.asked
    assert own_url == token_url == "https://oauth2.googleapis.com/token"
    assert sign_url.endswith("/serviceAccounts/mirror@project.iam.gserviceaccount.com:signJwt")
    claims = json.loads(json.loads(sign)["payload"])
    assert (claims["sub"], claims["scope"]) == (ALICE, scopes[0])
    assert found.token == "token3"
    assert delegated(ALICE) is found
    assert delegated("bob@example.com") is not found


def test_no_credentials() -> None:
    """`none` gives no credentials; delegation that is half configured is refused in a sentence."""
    assert credentials.for_mailbox("none", "", [])(ALICE) is None
    with pytest.raises(ValueError, match="GMAIL_DELEGATE"):
        credentials.for_mailbox("delegation", "", ["scope"])
    with pytest.raises(ValueError, match="GMAIL_SCOPES"):
        credentials.for_mailbox("delegation", "mirror@project.iam.gserviceaccount.com", [])


# --- The whole.


def test_no_call_leaves_the_machine(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """GMAIL_API_ROOT moves single calls and batches: every connection goes to it, whatever proxy the machine has."""
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    reached: set[object] = set()
    connect = socket.socket.connect

    class Watched(socket.socket):
        def connect(self, address: Any) -> None:
            reached.add(address)
            connect(self, address)

    monkeypatch.setattr(socket, "socket", Watched)
    ids = fake.deliver(30)
    client = fake.open()
    client.messages(ids, None)
    client.threads(ids, None)
    client.watch()
    client.history(client.profile().history_id)
    client.list_messages(None, include_spam_trash=True)
    client.list_threads(None, include_spam_trash=True)
    client.labels()
    assert reached == {("127.0.0.1", int(fake.root.rpartition(":")[2]))}


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """What is in a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("fault", ["404", "400:invalidArgument", "500", "reset", "429", "401", "retry-after:900"])
def test_answers_are_let_go(fake: Fake, monkeypatch: pytest.MonkeyPatch, fault: str, lanes: int) -> None:
    """When a call of the port is over nothing holds an answer, whatever became of some ids, and nobody has to collect.

    An answer and what is read of it are in the same frames.
    """
    answers: list[weakref.ref[object]] = []
    request = httplib2.Http.request

    def watched(self: httplib2.Http, *arguments: Any, **more: Any) -> tuple[Any, Any]:
        answer, content = request(self, *arguments, **more)
        answers.append(weakref.ref(answer))
        return answer, content

    monkeypatch.setattr(httplib2.Http, "request", watched)
    contents = Contents()
    ids = fake.deliver(12)
    for item_id in ids[3:5]:
        fake.faults("users.messages.get", {"id": item_id, "status": fault, "times": -1})
    client = fake.open(units_per_minute=1_000_000, lanes=lanes)
    with suppress(GmailError):
        client.messages(ids, Keeping())
    assert answers
    assert [answer() for answer in answers if answer() is not None] == []
    assert contents.held() == 0


def test_corpus_of_malformed_mail(fake: Fake, corpus: list[Path]) -> None:
    """Every message of CPython's corpus of broken mail is brought, and none fails."""
    ids = {fake.alice.deliver(path.read_bytes()): path.name for path in corpus}
    found = fake.open().messages(list(ids), Keeping())
    assert [ids[message_id] for message_id in messages_of(found, Failed)] == []
    assert sorted(messages_of(found, Message)) == sorted(ids)


@pytest.fixture
def corpus() -> list[Path]:
    """The messages that CPython tests its own parser with, where they are installed."""
    test_package = pytest.importorskip("test.test_email", reason="This Python comes without its test package.")
    return sorted((Path(test_package.__file__).parent / "data").glob("msg_*.txt"))
